"""What GPT-2's vocabulary is: its files and its special tokens. Standard library only, for the setup reads it too."""

VOCABULARY_SIZE = 50257
END_OF_TEXT = 50256
END_OF_TEXT_TOKEN = "<|endoftext|>"
BLANK_LINE = 628
EOS_IDS = (END_OF_TEXT, BLANK_LINE)

# The files that OpenAI released with GPT-2.
VOCABULARY_SHA256 = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
