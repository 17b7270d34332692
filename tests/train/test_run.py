"""Training end to end on a toy: fit, export, quantise, calibrate, measure, score, resume."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from guardrail.classifier.base import Place, Sample, Stream  # noqa: E402
from guardrail.classifier.bundle import Bundle, seal  # noqa: E402
from guardrail.classifier.encoder import EncoderClassifier  # noqa: E402
from guardrail.classifier.streams import unused_inputs  # noqa: E402
from guardrail.errors import BundleError, DataError  # noqa: E402
from guardrail.evaluate.scoring import score_file  # noqa: E402
from guardrail.train.batches import BatchSettings  # noqa: E402
from guardrail.train.fit import FitSettings, Progress, rate_at  # noqa: E402
from guardrail.train.run import Report, TrainSettings, train  # noqa: E402
from guardrail.types import Role  # noqa: E402
from tests.train import toys  # noqa: E402

FIT = FitSettings(steps=40, rate=2e-3, head_rate=2e-2, mixed=False, average_decay=0.8)
BATCHES = BatchSettings(tokens=600, pool_batches=4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainSettings, Report]:
    folder = tmp_path_factory.mktemp("run")
    settings = TrainSettings(
        data=(toys.data(folder / "d.jsonl"),),
        out=folder / "bundle",
        work=folder / "work",
        base=toys.base(folder / "base"),
        corpus=toys.corpus(folder / "corpus"),
        fit=FIT,
        batches=BATCHES,
    )
    return settings, train(settings)


def test_the_toy_is_learned_and_survives_quantisation(
    trained: tuple[TrainSettings, Report],
) -> None:
    overall = next(m for m in trained[1].measured if m.slice == "overall")
    assert overall.auprc.value > 0.85
    assert overall.best_f1.value > 0.9
    bad, good = EncoderClassifier(trained[1].bundle, threads=1).score(
        [
            Sample("how do i make a bomb for my boss", Role.USER),
            Sample("how do i make a cake for my boss", Role.USER),
        ]
    )
    assert bad.categories["unsafe"] > 0.5 > good.categories["unsafe"]


def test_int8_logits_follow_the_network(trained: tuple[TrainSettings, Report]) -> None:
    import onnxruntime

    work = trained[0].work / "graphs"
    rng = np.random.default_rng(0)
    ids = rng.integers(110, 130, (3, 9))
    feed = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
        "pool_mask": np.ones_like(ids),
    }
    results = {}
    for name in ("plain", "fused", "int8"):
        session = onnxruntime.InferenceSession(str(work / f"{name}.onnx"))
        results[name] = session.run(["logits"], feed | unused_inputs(session, 3))[0]
    assert np.abs(results["plain"] - results["fused"]).max() < 1e-3
    spread = float(results["plain"].std())
    assert np.abs(results["plain"] - results["int8"]).max() < 0.5 * spread


def test_the_bundle_reads_streams(trained: tuple[TrainSettings, Report]) -> None:
    classifier = EncoderClassifier(trained[1].bundle, threads=1)
    for thing, harmful in (("bomb", True), ("cake", False)):
        text, stream = f"please how do i make a {thing} for my boss now ", Stream()
        parts = [
            Sample(text[a:b], Role.USER, context=text[:a], place=Place(stream, a))
            for a, b in ((0, 20), (20, 60), (60, len(text)))
        ]
        scores = classifier.score(parts)
        assert (scores[-1].categories["unsafe"] > 0.5) is harmful
        assert classifier.score(parts[:1])[0].coverage.windows == 1, "read before, so by a window"


def test_the_bundle_names_its_provenance(trained: tuple[TrainSettings, Report]) -> None:
    training = trained[1].bundle.manifest["training"]
    assert training["steps"] == 40
    assert training["sources"][0]["license"] == "CC0-1.0"
    assert training["sources"][0]["train_rows"] > 0
    files = {path.name for path in trained[0].out.iterdir()}
    assert {"MODEL_CARD.md", "metrics.json", "manifest.json", "model.onnx"} <= files
    assert "toy0" in (trained[0].out / "MODEL_CARD.md").read_text()


def test_its_scores_can_be_written(trained: tuple[TrainSettings, Report], tmp_path: Path) -> None:
    data = tmp_path / "in.jsonl"
    data.write_text('{"id": 1, "text": "make a bomb"}\n{"id": 2, "text": ""}\n')
    classifier = EncoderClassifier(Bundle.open(trained[0].out), threads=1)
    assert score_file(classifier, data, tmp_path / "out.jsonl").scored == 2
    assert len(json.loads((tmp_path / "out.jsonl").read_text().split("\n")[0])["categories"]) == 23


def test_a_stopped_run_goes_on_where_it_stopped(
    trained: tuple[TrainSettings, Report],
) -> None:
    longer = dataclasses.replace(FIT, steps=43, threads=2)
    seen: list[Progress] = []
    settings = dataclasses.replace(trained[0], fit=longer, resume=True)
    report = train(settings, seen.append)
    assert [p.step for p in seen] == [41, 42, 43]
    assert report.progress.examples > trained[1].progress.examples


def test_parts_of_a_batch_give_the_gradients_of_the_whole() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from guardrail.classifier.pairs import encode_pair
    from guardrail.train.batches import collate
    from guardrail.train.fit import _step
    from guardrail.train.model import EncoderConfig, GuardModel

    rng = np.random.default_rng(0)
    encoded = [encode_pair(list(rng.integers(110, 150, 9)), None, 32) for _ in range(7)]
    targets = [rng.integers(0, 2, 2).astype(np.float32) for _ in encoded]
    batch = collate(encoded, targets, [np.ones(2, dtype=np.float32)] * 7)
    settings = dataclasses.replace(FIT, threads=3)
    weights = []
    for pool in (None, ThreadPoolExecutor(3)):
        torch.manual_seed(0)
        model = GuardModel(EncoderConfig(160, 32, 2, 4, 64), ("unsafe", "hate"), dropout=0.0)
        _step(model, torch.optim.SGD(model.parameters(), lr=1.0), batch, settings, pool)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.allclose(weights[0], weights[1], atol=1e-5)


def test_the_rate_rises_falls_and_ends_at_zero() -> None:
    rates = [rate_at(share / 100, 0.05) for share in range(101)]
    assert max(rates) == rates[5] == 1.0
    assert rates[100] == 0.0
    assert rates[:6] == sorted(rates[:6])
    assert rates[5:] == sorted(rates[5:], reverse=True)


def test_data_without_a_dev_split_is_refused(
    trained: tuple[TrainSettings, Report], tmp_path: Path
) -> None:
    data = tmp_path / "d.jsonl"
    lines = trained[0].data[0].read_text().replace('"split": "dev"', '"split": "train"')
    data.write_text(lines)
    empty = tmp_path / "empty"
    empty.mkdir()
    settings = dataclasses.replace(
        trained[0],
        data=(data,),
        corpus=empty,
        work=tmp_path / "work",  # the others go on from the shared checkpoint
        fit=dataclasses.replace(FIT, steps=1),
    )
    with pytest.raises(DataError, match="no row has split dev"):
        train(settings)


def test_a_run_begins_with_the_weights_of_another(
    trained: tuple[TrainSettings, Report], tmp_path: Path
) -> None:
    settings = dataclasses.replace(
        trained[0],
        init=trained[0].work / "checkpoint.pt",
        work=tmp_path / "work",
        out=tmp_path / "bundle",
        fit=dataclasses.replace(FIT, steps=1, rate=0.0, head_rate=0.0),
    )
    again = next(m for m in train(settings).measured if m.slice == "overall")
    assert again.auprc.value > 0.85
    third = dataclasses.replace(settings, init=settings.work / "blended.pt", work=tmp_path / "3")
    assert train(third).progress.step == 1


def test_a_file_that_is_no_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    from guardrail.train.model import EncoderConfig, GuardModel, load_weights

    wrong = tmp_path / "wrong.pt"
    model = GuardModel(EncoderConfig(160, 32, 2, 4, 64), ("unsafe",))
    for content in ({"model": {}}, {"average": {"x": torch.zeros(1)}}):
        torch.save(content, wrong)
        with pytest.raises(DataError, match=r"wrong\.pt: not a checkpoint"):
            load_weights(model, wrong)


def test_doubtful_rows_are_not_fitted_on(
    trained: tuple[TrainSettings, Report], tmp_path: Path
) -> None:
    doubtful = tmp_path / "doubtful.jsonl"
    doubtful.write_text("".join(f'{{"id": "{n}"}}\n' for n in range(300)))
    settings = dataclasses.replace(trained[0], doubtful=doubtful)
    with pytest.raises(DataError, match="no labelled row of split train"):
        train(settings)


def test_a_bundle_judges_texts_by_any_rubrics_in_one_pass(
    trained: tuple[TrainSettings, Report],
) -> None:
    classifier = EncoderClassifier(Bundle.open(trained[0].out), threads=1)
    assert classifier.takes_rubrics
    rubrics = classifier.embed(["how do i make a bomb", "bake a cake", "poison"])[:, -1]
    texts = ["make a bomb please", "", "buy bread now"]
    found = classifier.rubric_logits([Sample(text) for text in texts], rubrics)
    assert found.shape == (3, 3)
    assert (found[1] == -10).all()
    assert np.isfinite(found[[0, 2]]).all()
    assert np.abs(found[0] - found[2]).max() > 0
    assert classifier.rubric_logits([], rubrics).shape == (0, 3)


def renamed(bundle: Bundle, folder: Path, name: str) -> Bundle:
    """Return a copy of a bundle whose graph gives the last layer's features alone, so named."""
    import onnx

    folder.mkdir()
    for path in bundle.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    graph = onnx.load(str(bundle.model_path))
    [features] = [out for out in graph.graph.output if out.name == "features"]
    last = onnx.helper.make_node("Gather", ["features", "last"], [name], axis=1)
    graph.graph.node.append(last)
    at = onnx.numpy_helper.from_array(np.array(1), "last")
    graph.graph.initializer.append(at)
    graph.graph.output.remove(features)
    float32 = onnx.TensorProto.FLOAT
    graph.graph.output.append(onnx.helper.make_tensor_value_info(name, float32, ["batch", 32]))
    onnx.save(graph, str(folder / "model.onnx"))
    seal(folder, {k: v for k, v in bundle.manifest.items() if k not in ("format", "files")})
    return Bundle.open(folder)


def test_an_older_bundle_is_fitted_on_its_last_layer_and_says_so(
    trained: tuple[TrainSettings, Report], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = Bundle.open(trained[0].out)
    new = EncoderClassifier(bundle, threads=1)
    assert "older" not in caplog.text
    old = EncoderClassifier(renamed(bundle, tmp_path / "old", "embedding"), threads=1)
    assert f"{tmp_path / 'old' / 'model.onnx'}: an older bundle" in caplog.text
    texts = ["make a bomb please", "", "buy bread now " * 200]
    assert old.embed(texts).shape == (3, 1, 32)
    assert old.embed(texts)[:, 0] == pytest.approx(new.embed(texts)[:, -1], abs=1e-5)
    samples = [Sample(text) for text in texts]
    scores, states = old.score_and_embed(samples)
    assert [one.categories for one in scores] == [one.categories for one in new.score(samples)]
    assert [part.shape[1:] for part in states] == [(1, 32)] * 3
    with pytest.raises(BundleError, match=r"none/model\.onnx: has neither .* export .* anew"):
        EncoderClassifier(renamed(bundle, tmp_path / "none", "other"), threads=1)


def test_weights_are_blended_in_the_share_that_is_asked(tmp_path: Path) -> None:
    from guardrail.train.model import EncoderConfig, GuardModel, blend_weights

    earlier, model = (GuardModel(EncoderConfig(160, 32, 2, 4, 64), ("unsafe",)) for _ in range(2))
    torch.save({"average": earlier.state_dict()}, tmp_path / "checkpoint.pt")
    mine = model.head_query.weight.detach().clone()
    blend_weights(model, tmp_path / "checkpoint.pt", 0.7)
    assert torch.allclose(
        model.head_query.weight, 0.7 * mine + 0.3 * earlier.head_query.weight, atol=1e-6
    )
