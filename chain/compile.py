"""Compile the contracts: `python chain/compile.py` rewrites chain/compiled/ from chain/contracts/.

What is written depends only on the source and the compiler's version; a test compiles again and compares.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

CHAIN = Path(__file__).resolve().parent


def compiled(source: Path) -> dict[str, Any]:
    """Interface, code and documentation of one contract, with what they were made from."""
    import vyper

    text = source.read_text(encoding="utf-8")
    formats = ["abi", "bytecode", "bytecode_runtime", "userdoc", "devdoc"]
    out = vyper.compile_code(text, contract_path=f"contracts/{source.name}", output_formats=formats)
    runtime = out["bytecode_runtime"]
    return {
        "contract": source.stem,
        "compiler": f"vyper {vyper.__version__}",
        "source": f"contracts/{source.name}",
        "source_sha256": sha256(source.read_bytes()).hexdigest(),
        "abi": out["abi"],
        "bytecode": out["bytecode"],
        "runtime_bytecode": runtime,
        "runtime_sha256": sha256(bytes.fromhex(runtime.removeprefix("0x"))).hexdigest(),
        "userdoc": out["userdoc"],
        "devdoc": out["devdoc"],
    }


def main() -> None:
    """Write one JSON file for each contract."""
    for source in sorted((CHAIN / "contracts").glob("*.vy")):
        target = CHAIN / "compiled" / f"{source.stem}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(compiled(source), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
