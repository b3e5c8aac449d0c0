import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/inspect.md"])
def test_every_code_block_runs(document, as_a_user, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / document).read_text(), re.M | re.S)
    assert blocks
    namespace = {"__name__": document}
    for block in blocks:
        exec(compile(block, document, "exec"), namespace)
