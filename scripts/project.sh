# shellcheck shell=bash
# Sourced first by every script here: sets `root` to the project's folder and refuses one without its links. `cd` would
# look for a relative path in the user's CDPATH first, and print what it finds there.
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if ! [[ $root/scripts/common -ef $root/common ]]; then
    echo "${0##*/}: error: $root/scripts/common is no symbolic link to ../common: this copy of the project was made" \
        "without links. Clone with git clone -c core.symlinks=true, unpack an archive with tar or unzip, or copy a" \
        "folder with cp -a" >&2
    exit 2
fi
