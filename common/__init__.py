"""Everything that no framework touches, written once and used by both trees."""

import os
import sys

# In the project's root scripts/ lies beside common/. A copy elsewhere would read and write another data/ and work/.
_root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
if not os.path.isdir(os.path.join(_root, "scripts")):
    print(f"{os.path.basename(sys.argv[0])}: error: {_root}/common is a copy, expected a symbolic link to the "
          "project's common/. Clone with git clone -c core.symlinks=true, unpack an archive with tar or unzip, or "
          "copy a folder with cp -a", file=sys.stderr)
    sys.exit(2)
