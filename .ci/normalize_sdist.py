"""Write a source distribution again so that equal contents are equal bytes.

    python .ci/normalize_sdist.py dist/NAME.tar.gz SECONDS

setuptools stores the times of files, the user's name and the time of packing. Here every file gets the time
SECONDS (that of the commit) and no owner, files are sorted, and the compressed stream names no file.
"""

import gzip
import io
import sys
import tarfile


def normalize(path, seconds):
    """Replace the archive `path` by its normal form."""
    content = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            entry = tarfile.TarInfo(member.name)
            entry.type, entry.size, entry.mtime = member.type, member.size, seconds
            entry.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(entry, old.extractfile(member) if member.isfile() else None)
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=seconds) as stream:
        stream.write(content.getvalue())


if __name__ == "__main__":
    normalize(sys.argv[1], int(sys.argv[2]))
