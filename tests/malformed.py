"""What tests of malformed inputs share: a table of cases, and archives that are whole, damaged or cut."""

import zipfile
import zlib

import pytest


def table(cases):
    """A test for each entry, named by its key."""
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def damaged(path, old):
    """The file with bytes changed in the middle of what `old` was packed to."""
    content, packed = path.read_bytes(), zlib.compress(old)[2:-4]
    at = content.index(packed[:20]) + len(packed) // 2
    path.write_bytes(content[:at] + bytes(byte ^ 0x55 for byte in content[at : at + 8]) + content[at + 8 :])
    return path


def cut(path, share=0.6):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path
