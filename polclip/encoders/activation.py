"""QuickGELU or GELU: with the activation that its weights were not trained with, a CLIP gives wrong embeddings."""

import json
from pathlib import Path

from polclip.errors import UserError

SUFFIX = "-quickgelu"  # of open_clip's architectures that have a twin without


def check_activation(architecture: str, weights: str) -> None:
    """Raise UserError where the weights are known to be trained with the other activation than the architecture's.

    Args:
        architecture: as in `load_clip`. Of those that open_clip has with one activation alone nothing is refused.
        weights: a tag of open_clip; a file, known by `open_clip_config.json` or `config.json` (transformers) beside it
            or by a tag in its name; or "", for a folder of `local-dir:`.
    """
    import open_clip

    computed = bool((open_clip.get_model_config(architecture) or {}).get("quick_gelu"))
    if architecture.startswith("local-dir:"):
        folder = Path(architecture.removeprefix("local-dir:"))
        if _of_transformers(folder / "config.json") in (None, computed):
            return
        raise UserError(
            f"encoder.clip_architecture: config.json in {folder} says {_with(not computed)}, and open_clip_config.json "
            f"says {_with(computed)}. Write quick_gelu: {json.dumps(not computed)} under "
            "model_cfg of open_clip_config.json if config.json is right, or remove config.json if it is not."
        )
    twin = architecture.removesuffix(SUFFIX) if architecture.endswith(SUFFIX) else architecture + SUFFIX
    names = [name for name in (architecture, twin) if name in open_clip.list_models()]
    trained = _trained_with_quick_gelu(names, weights)
    if trained is None or trained == computed or twin not in names:
        return
    raise UserError(
        f"encoder.clip_weights: {weights!r} was trained {_with(trained)}, and {architecture} computes "
        f"{_with(computed)}: its embeddings would be wrong. Write encoder.clip_architecture: {twin}."
    )


def _with(quick_gelu: bool) -> str:
    return f"{'with' if quick_gelu else 'without'} QuickGELU"


def _trained_with_quick_gelu(architectures: list[str], weights: str) -> bool | None:
    """How the weights were trained; None where nothing tells."""
    import open_clip

    of_tag = {
        tag: bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu"))
        for name in architectures
        for tag in open_clip.list_pretrained_tags_by_model(name)
    }
    name = Path(weights).name.lower().replace("-", "_")
    if name in of_tag or not Path(weights).is_file():
        return of_tag.get(name)
    folder = Path(weights).parent
    for told in (_of_open_clip(folder / "open_clip_config.json"), _of_transformers(folder / "config.json")):
        if told is not None:
            return told
    if "quickgelu" in name:
        return True
    # The longest: laion2b_s34b_b79k_... is no laion2b.
    return next((of_tag[tag] for tag in sorted(of_tag, key=len, reverse=True) if tag in name), None)


def _of_open_clip(path: Path) -> bool | None:
    block = _read(path).get("model_cfg")
    return bool(block.get("quick_gelu")) if isinstance(block, dict) else None


def _of_transformers(path: Path) -> bool | None:
    config = _read(path)
    for block in (config, config.get("vision_config"), config.get("text_config")):
        if isinstance(block, dict) and isinstance(block.get("hidden_act"), str):
            return block["hidden_act"] == "quick_gelu"
    return None


def _read(path: Path) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
