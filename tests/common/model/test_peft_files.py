"""export_peft.py, import_peft.py and merge_lora.py on files, without PEFT: what is the same again, what is refused."""

import errno
import json
import os
import resource

import numpy as np
import pytest
import safetensors.numpy

from common.errors import UserError
from common.model import merging, peft_export, peft_import
from common.model.checkpoint import new_record
from common.model.lora_arrays import PROJECTIONS, TARGETS, LoraSettings, lora_shapes, merge_lora
from common.model.lora_file import LoraRecord, read_checkpoint, save_lora
from common.model.model_cards import MODEL_CARDS, backbone_shapes
from common.model.weight_files import read_arrays
from tests.common.model.checkpoint_cases import BACKBONE, CARD, LORA, SETTINGS, assert_same, random_arrays, write

PLAIN = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["c_attn"], "fan_in_fan_out": True,
         "base_model_name_or_path": "openai-community/gpt2-test"}
SHAPES = {f"base_model.model.transformer.h.{layer}.attn.c_attn.lora_{half}.weight": shape
          for layer in range(2) for half, shape in (("A", (2, 6)), ("B", (18, 2)))}
ARRAYS = random_arrays(SHAPES, seed=3)


@pytest.fixture(autouse=True)
def small_card(monkeypatch):
    monkeypatch.setitem(MODEL_CARDS, CARD.name, CARD)


@pytest.fixture
def run_import(project, backbone_path):
    """A function that writes an adapter and runs import_peft.py on it; returns the file that it writes."""
    def run(config=PLAIN, arrays=ARRAYS, *flags, card=CARD.name):
        folder = project / "adapter"
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        write(folder / "adapter_model.safetensors", arrays)
        peft_import.main([str(folder), str(project / "out.safetensors"), "--model_card", card,
                          "--init_checkpoint", str(backbone_path), *flags])
        return project / "out.safetensors"
    return run


# There and back

@pytest.mark.parametrize("targets", [("q", "v"), ("k",), TARGETS], ids=",".join)
def test_there_and_back(project, backbone_path, targets, capsys):
    settings = LoraSettings(rank=3, alpha=10.5, targets=targets)
    lora = random_arrays(lora_shapes(CARD, settings), seed=4)
    record = new_record(CARD, settings, backbone_path)
    save_lora(project / "a.safetensors", lora, record)
    peft_export.main([str(project / "a.safetensors"), str(project / "adapter")])
    assert sorted(os.listdir(project / "adapter")) == ["adapter_config.json", "adapter_model.safetensors"]
    peft_import.main([str(project / "adapter"), str(project / "b.safetensors"), "--model_card", CARD.name,
                      "--init_checkpoint", str(backbone_path)])
    found, found_record = read_checkpoint(project / "b.safetensors")[1:]
    assert_same(found, lora)
    assert found_record == record
    said = capsys.readouterr()
    assert said.err == "" and said.out.endswith(f"--lora_dim 3 --lora_alpha 10.5 --lora_targets {','.join(targets)}\n")


def random_adapter(generator, use_rslora):
    """Returns the configuration and arrays of an adapter with random modules, ranks, scales and zeros in B, and
    ``{weight's name: what PEFT's formula adds to it}``."""
    config = {**PLAIN, "rank_pattern": {}, "alpha_pattern": {}, "use_rslora": use_rslora}
    arrays, updates = {}, {}
    modules = [f"transformer.h.{layer}.{projection}" for layer in range(CARD.layers) for projection in PROJECTIONS]
    for module in generator.permutation(modules)[:6]:
        rank, alpha = int(generator.integers(1, 5)), float(generator.integers(1, 9)) / 2
        fan_in, fan_out = backbone_shapes(CARD)[module + ".weight"]
        a, b = (generator.standard_normal(shape).astype(np.float32) for shape in ((rank, fan_in), (fan_out, rank)))
        for block in np.split(b, 3 if module.endswith("c_attn") else 1):
            block[:, generator.random(rank) < 0.4] = 0
        config["rank_pattern"][module], config["alpha_pattern"][module] = rank, alpha
        arrays.update({f"base_model.model.{module}.lora_{half}.weight": array for half, array in (("A", a), ("B", b))})
        updates[module + ".weight"] = alpha / (rank ** 0.5 if use_rslora else rank) * (b.astype(np.float64) @ a).T
    return config, arrays, updates


@pytest.mark.parametrize("seed", range(6))
def test_any_update_stays_what_it_was(run_import, seed):
    config, arrays, updates = random_adapter(np.random.default_rng(seed), bool(seed % 2))
    lora, record = read_checkpoint(run_import(config, arrays))[1:]
    settings = LoraSettings(record.lora_dim, record.lora_alpha, targets=record.lora_targets)
    assert settings.rank <= max(config["rank_pattern"].values())
    nothing = {name: np.zeros(shape, np.float32) for name, shape in backbone_shapes(CARD).items()}
    for name, array in merge_lora(nothing, lora, settings).items():
        np.testing.assert_allclose(array, updates.get(name, 0), rtol=1e-5, atol=1e-6, err_msg=name)


def test_an_alpha_that_no_short_number_is(run_import, project, backbone_path, capsys):
    """rslora's scale is a root; the flags that are printed give exactly the recorded alpha."""
    record = read_checkpoint(run_import({**PLAIN, "use_rslora": True}))[2]
    assert record.lora_alpha == 6 * 2 / 2 ** 0.5
    words = capsys.readouterr().out.split()
    assert float(words[words.index("--lora_alpha") + 1]) == record.lora_alpha


# Whose backbone

def test_the_name_of_the_backbone():
    def name_of(path):
        return peft_export.base_model_of(LoraRecord("gpt2.md", 4, 32, backbone_path=path))
    assert name_of("pretrained_checkpoints/gpt2-medium/model.safetensors") == "openai-community/gpt2-medium"
    assert name_of("pretrained_checkpoints/gpt2-nano/model.safetensors") == "pretrained_checkpoints/gpt2-nano"
    assert name_of("/data/mine/pytorch_model.bin.index.json") == "/data/mine"
    assert name_of("/data/mine/weights.pt") == "/data/mine/weights.pt"
    assert name_of("random") is name_of("") is None


def test_another_base_model_is_said(run_import, capsys):
    run_import({**PLAIN, "base_model_name_or_path": "someone/gpt2-tales/"})
    assert capsys.readouterr().err == (
        "note: the adapter was trained on someone/gpt2-tales/: results are right only if "
        "pretrained_checkpoints/gpt2-test/model.safetensors holds the same weights\n")


# What does not fit

@pytest.mark.parametrize("config, reason", [
    ("{", "adapter_config.json: cannot be read as JSON"),
    ([], "the JSON is a list, expected an object"),
    ({**PLAIN, "peft_type": "LOHA"}, "peft_type is 'LOHA', expected 'LORA'"),
    ({**PLAIN, "init_lora_weights": "olora"}, "init_lora_weights is 'olora': such a start changes the backbone"),
    ({**PLAIN, "layer_replication": [[0, 2], [1, 2]]}, "layer_replication is .*: layers are repeated"),
    ({**PLAIN, "alora_invocation_tokens": [5]}, "alora_invocation_tokens is .*: the update is on behind some tokens"),
    ({**PLAIN, "enable_lora": [True, False, True]}, "enable_lora is .*: this program does not know what that changes"),
    ({**PLAIN, "r": 4}, r"h\.0\.attn\.c_attn: lora_A is \(2, 6\) and lora_B \(18, 2\), expected \(4, 6\) and"),
    ({**PLAIN, "r": "2"}, r'\.r is "2", expected an integer'),
    ({**PLAIN, "lora_alpha": 0}, "lora_alpha or alpha_pattern has a number that is not above 0"),
    ({**PLAIN, "alpha_pattern": {"c_attn": -1.5}}, "lora_alpha or alpha_pattern has a number that is not above 0"),
    ({**PLAIN, "rank_pattern": {"c_attn(": 2}}, r"rank_pattern holds \['c_attn\('\], expected regular expressions: "),
    ({**PLAIN, "rank_pattern": ["c_attn"]}, r"\.rank_pattern is a list, expected an object or null"),
    ({**PLAIN, "new\x1b[2J": True}, r"'new\\x1b\[2J' is True: this program does not know what that changes"),
])
def test_configurations_that_are_refused(run_import, project, config, reason):
    with pytest.raises(UserError, match=reason):
        run_import(config)
    assert not (project / "out.safetensors").exists()


@pytest.mark.parametrize("change, reason", [
    (lambda arrays: {}, "holds no array; expected updates of attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj alone"),
    (lambda arrays: {**arrays, "base_model.model.score.weight": np.ones((2, 6), np.float32)},
     r"holds base_model\.model\.score\.weight; expected"),
    (lambda arrays: dict(list(arrays.items())[1:]), "h.0.attn.c_attn: lora_A is missing and lora_B"),
    (lambda arrays: {name.replace("h.1", "h.2"): array for name, array in arrays.items()},
     "h.2.attn.c_attn: gpt2.test has 2 layers; give the --model_card of the adapter's model"),
    (lambda arrays: {**arrays, next(iter(arrays)): np.ones((2, 6), np.int32)}, "has dtype int32, expected floating"),
])
def test_arrays_that_are_refused(run_import, project, change, reason):
    with pytest.raises(UserError, match=reason):
        run_import(PLAIN, change(ARRAYS))
    assert not (project / "out.safetensors").exists()


def test_an_adapter_of_another_size(run_import):
    with pytest.raises(UserError, match=r"expected \(2, 768\) and \(2304, 2\) for gpt2\.sm and the rank in adapter_"):
        run_import(card="gpt2.sm")


def test_files_that_are_missing_or_there_already(run_import, project, tmp_path):
    written = run_import()
    before = written.read_bytes()
    with pytest.raises(UserError, match="out.safetensors: expected a file that does not exist yet"):
        run_import()
    assert written.read_bytes() == before
    flags = ["--model_card", CARD.name]
    with pytest.raises(UserError, match="out.pt: expected a file .* whose name ends in .safetensors"):
        peft_import.main([str(project / "adapter"), str(tmp_path / "out.pt"), *flags])
    (project / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match="has neither adapter_model.safetensors nor adapter_model.bin"):
        peft_import.main([str(project / "adapter"), str(tmp_path / "b.safetensors"), *flags])
    with pytest.raises(UserError, match="nowhere.adapter_config.json: no such file"):
        peft_import.main([str(project / "nowhere"), str(tmp_path / "b.safetensors"), *flags])


def test_an_adapter_in_place_of_a_checkpoint(run_import, project):
    run_import()
    with pytest.raises(UserError, match="a name of Hugging Face's PEFT: scripts/import_peft.py makes a LoRA"):
        read_arrays(project / "adapter" / "adapter_model.safetensors")


# Checkpoints that record their training, and those that do not

def test_flags_in_place_of_a_record(project):
    path = write(project / "model.26290.safetensors", {"module." + name: array for name, array in LORA.items()})
    with pytest.raises(UserError, match="does not record how it was trained; give --model_card, --lora_alpha, "
                                        "--lora_targets as in its training"):
        peft_export.main([str(path), str(project / "adapter")])
    flags = ["--model_card", CARD.name, "--lora_alpha", "8", "--lora_targets"]
    for alpha in ("0", "-1", "nan", "inf"):
        with pytest.raises(UserError, match=f"--lora_alpha {float(alpha)}: expected a number above 0"):
            peft_export.main([str(path), str(project / "adapter"), "--lora_alpha", alpha])
    with pytest.raises(UserError, match=r"4 missing: transformer\.h\.0\.attn\.c_proj\.lora_A"):
        peft_export.main([str(path), str(project / "adapter"), *flags, "q,v,o"])
    assert not (project / "adapter").exists()
    peft_export.main([str(path), str(project / "adapter"), *flags, "v,q"])
    config = json.loads((project / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (4, 16, None)
    arrays = safetensors.numpy.load_file(project / "adapter" / "adapter_model.safetensors")
    lora_b = LORA["transformer.h.1.attn.c_attn.lora_B"]
    found = arrays["base_model.model.transformer.h.1.attn.c_attn.lora_B.weight"]
    np.testing.assert_array_equal(found[:6, :2], lora_b[:6])
    np.testing.assert_array_equal(found[12:, 2:], lora_b[6:])
    assert np.count_nonzero(found) == lora_b.size


@pytest.mark.parametrize("flags, reason", [
    (["--lora_alpha", "16"], "records lora_alpha 32, but --lora_alpha says 16.0; leave the flag out"),
    (["--lora_targets", "q,k"], r"records lora_targets \('q', 'v'\), but --lora_targets says q,k"),
    (["--model_card", "gpt2.sm"], "records model_card 'gpt2.test', but --model_card says gpt2.sm"),
])
def test_flags_that_differ_from_the_record(project, lora_path, flags, reason):
    with pytest.raises(UserError, match=reason):
        peft_export.main([str(lora_path), str(project / "adapter"), *flags])
    peft_export.main([str(lora_path), str(project / "adapter"), "--lora_targets", "v,q", "--lora_alpha", "32"])


def test_a_model_that_no_card_describes(project, lora_path, monkeypatch):
    monkeypatch.delitem(MODEL_CARDS, CARD.name)
    with pytest.raises(UserError, match="was trained on gpt2.test; expected one of gpt2.nano, gpt2.sm"):
        peft_export.main([str(lora_path), str(project / "adapter")])


@pytest.mark.parametrize("arrays, reason", [
    ({name: array for name, array in LORA.items() if name.endswith("A")},
     r"2 missing: transformer\.h\.0\.attn\.c_attn\.lora_B"),
    (BACKBONE, "no lora_A or lora_B among its 28 arrays, expected a LoRA checkpoint"),
    ({**LORA, "transformer.h.0.attn.c_attn.bias": np.ones(18, np.float32)},
     r"holds 1 arrays that are neither LoRA's nor a whole backbone: transformer\.h\.0\.attn\.c_attn\.bias; only what"),
])
def test_files_of_something_else(project, arrays, reason):
    path = write(project / "a.safetensors", arrays)
    with pytest.raises(UserError, match=reason):
        peft_export.main([str(path), str(project / "adapter"), "--model_card", CARD.name, "--lora_alpha", "8",
                          "--lora_targets", "q,v"])


# Merging

@pytest.mark.parametrize("origin", ["recorded", "given", "together"])
def test_merging(project, lora_path, backbone_path, vocab, origin):
    flags = []
    if origin == "given":
        flags = ["--init_checkpoint", str(backbone_path.rename(project / "elsewhere.safetensors"))]
    if origin == "together":
        lora_path = write(project / "both.safetensors", {**BACKBONE, **LORA})
        flags = ["--model_card", CARD.name, "--lora_alpha", "32", "--lora_targets", "q,v"]
    merging.main([str(lora_path), str(project / "merged"), *flags])
    assert_same(read_arrays(project / "merged"), merge_lora(BACKBONE, LORA, SETTINGS))
    assert json.loads((project / "merged" / "config.json").read_text())["n_embd"] == CARD.width
    assert (project / "merged" / "merges.txt").read_bytes() == (vocab / "vocab.bpe").read_bytes()
    umask = os.umask(0)
    os.umask(umask)
    assert (project / "merged").stat().st_mode & 0o777 == 0o777 & ~umask
    assert {path.stat().st_mode & 0o777 for path in (project / "merged").iterdir()} == {0o666 & ~umask}


def test_a_folder_with_something_in_it_is_left_alone(project, lora_path, vocab):
    for program in (merging, peft_export):
        with pytest.raises(UserError, match="gpt2-test: exists and is not an empty folder"):
            program.main([str(lora_path), str(project / "pretrained_checkpoints" / "gpt2-test")])
    assert os.listdir(project / "pretrained_checkpoints" / "gpt2-test") == ["model.safetensors"]


def test_a_disk_that_is_full_leaves_nothing(project, lora_path, vocab):
    """By the system's limit of a file's size; safetensors gives the system's error in words."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for program, limit, name in ((peft_export, 1000, "adapter_model.safetensors"), (merging, 500_000, "vocab.json")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(OSError) as found:
                program.main([str(lora_path), str(project / "new")])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert found.value.errno == errno.EFBIG and found.value.filename == str(project / "new" / name)
    assert sorted(os.listdir(project)) == ["pretrained_checkpoints", "trained"]
