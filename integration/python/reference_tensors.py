"""Writes what PyTorch feeds to the model, or what it says instead, for each picture of /pictures and /kinds."""

from __future__ import annotations

import json
from pathlib import Path

import network
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
    fitted = reference.tensor_of(reference.fit(decoded.pixels, 224, None))
    tensor = network.normalize(fitted, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    (OUT / path.name).write_bytes(tensor.numpy().astype("<f4").tobytes())
(OUT / "said.json").write_text(json.dumps(said))
