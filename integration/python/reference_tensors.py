"""Writes what PyTorch feeds to the model, or what it says instead, for each picture of /pictures and /kinds."""

from __future__ import annotations

import json
from pathlib import Path

import picture
import reference

OUT = Path("/out")

said = {}
for path in sorted([*Path("/pictures").iterdir(), *Path("/kinds").iterdir()]):
    try:
        decoded = picture.decode(path)
    except picture.BadPicture as problem:
        said[path.name] = str(problem)
        continue
    (OUT / path.name).write_bytes(reference.preprocess(decoded.pixels).numpy().astype("<f4").tobytes())
(OUT / "said.json").write_text(json.dumps(said))
