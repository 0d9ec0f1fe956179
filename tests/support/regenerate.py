"""``make regenerate``: writes every file that is derived from the code; the tests compare them."""

from __future__ import annotations

from tests.support import abi, checklist, config_sample, docs, golden, man, qemu_golden
from virtsnap_protocol import export


def main() -> None:
    """Write the schemas, the OpenRPC document, the sample configuration, golden files, docs and man pages."""
    export.main([])
    config_sample.SAMPLE.write_text(config_sample.format_sample())
    golden.regenerate()
    qemu_golden.regenerate()
    abi.regenerate()
    for path in docs.documents():
        path.write_text(docs.regenerated(path.read_text()))
    checklist.write()
    man.regenerate()


if __name__ == "__main__":
    main()
