"""What a training starts from: the aligned heads of a pair of towers, or a CLIP."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from torch import nn

from polclip.encoders.embed import EncoderSettings, text_encoder
from polclip.encoders.feature_store import FeatureStore
from polclip.errors import UserError
from polclip.model.pair_polclip import PairModelSettings, PairPolCLIP
from polclip.model.polclip import PolCLIP, read_model
from polclip.workplaces import scratch_folder


def starting_model(
    model: Mapping,
    encoder: Mapping,
    towers: str | Path | None,
    pictures: FeatureStore,
    text_weights: str | Path | None = None,
    senses: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> PolCLIP:
    """An untrained PolCLIP over pretrained towers.

    Args:
        model: the settings' block `model`; each kind of model reads its own keys.
        encoder: keys of `EncoderSettings`: which towers.
        towers: folder written by `align_towers`, of a pair.
        pictures: their features, which must have been made with the same towers.
        text_weights: package of a pair's text tower, read where it is trained.
        senses, groups: of which a pair may learn something, see `SenseVectors`.
    """
    settings = EncoderSettings(**encoder)
    check_features(pictures, settings.of_pictures())
    if settings.kind == "pair":
        from polclip.training.alignment import read_heads

        described, heads = read_heads(towers)
        own = _own(PairModelSettings, model)
        pretrained = _text_tower(settings, text_weights) if own.trainable_text_blocks else None
        # What begins with _ tells where it was read from.
        config = pretrained and {k: v for k, v in pretrained.config.to_dict().items() if not k.startswith("_")}
        of_texts = settings.text_layers, settings.text_precision
        polclip = PairPolCLIP(described, own, config, *of_texts, senses, groups)
        if pretrained:
            polclip.context.transformer.load_state_dict(
                {name: t for name, t in pretrained.state_dict().items() if not name.startswith("pooler.")}
            )
        polclip.heads.load_state_dict(heads)
        polclip.restart_momentum()
        return polclip

    from polclip.encoders.clip import clip_config, load_clip
    from polclip.model.clip_polclip import ClipModelSettings, ClipPolCLIP

    clip, _ = load_clip(settings.clip_architecture, settings.clip_weights)
    tokens = None if settings.grid is None else settings.grid**2 + 1
    own = _own(ClipModelSettings, {**model, "trainable_image_blocks": settings.trainable_image_blocks})
    return ClipPolCLIP(clip, own, clip_config(settings.clip_architecture), tokens)


def take_over(model: PolCLIP, folder: str | Path) -> None:
    """Let a model start from another's weights: of all parts that both have; the other parts stay as they are.

    UserError where parts of one name differ in shape, or where vectors were learned of other senses.
    """
    other = read_model(folder)
    mine = model.own_state()
    weights = {name: tensor for name, tensor in other.own_state().items() if name in mine}
    wrong = [name for name, tensor in weights.items() if tensor.shape != mine[name].shape]
    if "sense_vectors.offsets" in weights and any(
        getattr(model.sense_vectors, of) != getattr(other.sense_vectors, of) for of in ("senses", "groups")
    ):
        wrong.append("the senses it learned of")
    if wrong or not weights:
        raise UserError(
            f"training.start_from: the model in {folder} does not fit ({', '.join(wrong[:5]) or 'no part is shared'}): "
            "the sizes under model have to be the same, and the textual training corpora."
        )
    model.load_state_dict(weights, strict=False)
    model.restart_momentum()


def preprocessing_of(model: PolCLIP) -> dict | None:
    """How pictures are brought to the form that a CLIP's image tower reads, as open_clip has it; None of a pair."""
    return model.clip.visual.preprocess_cfg if hasattr(model, "clip") else None


def _text_tower(encoder: EncoderSettings, text_weights: str | Path) -> nn.Module:
    with scratch_folder() as unpacked:
        return text_encoder(encoder, text_weights, unpacked / "encoder", "cpu").model


def _own(settings: type, block: Mapping) -> object:
    """The settings of one kind of model: its keys of the common block."""
    return settings(**{field.name: block[field.name] for field in fields(settings) if field.name in block})


def check_features(store: FeatureStore, expected: Mapping, of: str = "pictures") -> None:
    """Raise UserError where stored features were made with other towers than the model's.

    expected: `EncoderSettings.of_pictures` or `of_texts`. Of features that do not say a key nothing is expected there.
    of: pictures or texts, for the message.
    """
    for described in store.described:
        for key, value in expected.items():
            if key in described and described[key] != value:
                raise UserError(
                    f"The stored {of} were made with {key} {described[key]!r}, and the model has {value!r}. "
                    f"Delete the folder embeddings/{of} of these results and run the same command again."
                )
