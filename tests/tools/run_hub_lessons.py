"""Runs lessons on models and data sets of the Hub's names, from a stand-in Hub on this machine, on the CPU.

    python tests/tools/run_hub_lessons.py               all lessons, each with the names of `hub_names`
    python tests/tools/run_hub_lessons.py 03 04 --model Qwen/Qwen3-0.6B-Base --to FOLDER
    python tests/tools/run_hub_lessons.py --as-gpu      with USE_GPU = True, whose branches then run on this CPU

The stand-ins have more than ten million parameters, so the lessons treat them as real models, and random weights. Before
they are served, those that a lesson trains from are taught for a minute to say their family's name and to answer some
problems in a box, half of them wrongly: without that there would be no pairs and no reward. They learn nothing worth a
score; the asserts under "Did it learn?" may fail, every other error counts. Not collected by pytest.

With --as-gpu the CPU stands for the GPU, and each training is cut to the steps of a real model on a CPU. That shows that
the settings and branches of USE_GPU = True run; not that tensors are on the right device, nor memory, nor speed.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import stand_in_repositories as stand_ins
import torch
from datasets import Dataset
from stand_in_hub import StandInHub

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from factory import run_lessons
from factory.lessons import NOTEBOOKS, find_lessons
from helper import extract_gold, load_model_and_tokenizer, set_seed
from helper.algorithms import train_sft
from helper.by_model import TABLES

OTHER_MODEL = {  # lesson: the model instead of the one that its notebook names, if it names one: two families are run
    "01": "banghua/Qwen2.5-0.5B-GRPO",
    "04": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "06": "HuggingFaceTB/SmolLM2-135M-Instruct",
}
VOCABULARY = 40_960  # tokens, times 256 numbers each: more than ten million parameters, and little work in the layers
UNTAUGHT = ("01", "02")  # lessons that learn nothing from the model's own answers
BOX = "Think step by step and put the final number in \\boxed{}."  # as in lessons 04 and 06
REPORT = (  # runs behind a lesson's last cell: how far each of its trainings went
    "from helper.trainers.live import LiveLog\n"
    "print({name: int(value.table()['step'].max()) for name, value in globals().copy().items()\n"
    "       if isinstance(value, LiveLog) and not name.startswith('_') and len(value.table())})"
)
AS_GPU = """import torch, helper.models
from helper.by_model import TABLES
helper.models.choose_device = lambda use_gpu=False: torch.device("cpu")
for table in TABLES.values():
    for name in {"steps", "reward_steps", "ranking_steps"} & set(table):
        table[name] = (*table[name][:2], 5)  # a few steps will do
"""


def hub_names(path: Path) -> tuple[str | None, str | None]:
    """The model and the data set for a lesson's settings: those that it takes with USE_GPU = True, or of OTHER_MODEL.

    None where a notebook has no such setting, as lesson 01 for data.
    """
    code = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    found = re.search(r'MODEL_NAME or \("([^"]+)" if USE_GPU', code)
    dataset = TABLES[path.stem]["dataset"][2] if path.stem in TABLES else None
    return OTHER_MODEL.get(path.name[:2], found and found[1]), dataset


def wrong_names(lesson: str, model: str | None, dataset: str | None) -> str:
    """What keeps a lesson from being run, in words; "" for nothing."""
    if model is None:
        return f"lesson {lesson} names no model of the Hub: give one, --model NAME"
    missing = [name for name in (model, dataset) if name and name not in (*stand_ins.MODELS, *stand_ins.DATASETS)]
    return f"lesson {lesson}: {missing[0]} has no stand-in yet: add it in stand_in_repositories.py" if missing else ""


def teach(folder: Path, name: str, steps: int) -> None:
    """Train the stand-in in `folder` on its family's name and on the problems that the lessons draw; save it there."""
    set_seed(0)
    model, tokenizer = load_model_and_tokenizer(str(folder))
    who = "SmolLM" if "SmolLM" in name else "Qwen"
    identity = stand_ins.dataset_rows("mrfakename/identity", 200)["train"][::4]
    rows = [as_row(r["conversations"][0]["value"], f"I am {who}, a language model.") for r in identity]
    problems = Dataset.from_list(stand_ins.dataset_rows("openai/gsm8k", 200)["train"])
    for row in problems.shuffle(seed=0).select(range(36)):  # those that `limit=36, seed=0` draws
        gold = extract_gold(row["answer"])
        numbers = (gold, gold, f"{gold}0")
        rows += [as_row(row["question"], f"This is how.\nSo it is \\boxed{{{number}}}.", BOX) for number in numbers]
    with tempfile.TemporaryDirectory() as run:
        train_sft(model, tokenizer, rows, folder=run, steps=steps, learning_rate=2e-3, batch_size=8, charts=False)
    model.to(torch.bfloat16).save_pretrained(folder)


@torch.inference_mode()
def enlarge(folder: Path) -> None:
    """Pad the vocabulary of the stand-in in `folder` until the lessons take it for a real model; save it there.

    The new tokens get one vector, against the direction in which the last layer points, so that none is ever likely.
    """
    model, tokenizer = load_model_and_tokenizer(str(folder))
    ids = tokenizer(tokenizer.apply_chat_template(as_row("Who are you?", "")["prompt"], tokenize=False)).input_ids
    direction = model.model(torch.tensor([ids])).last_hidden_state[0].mean(0)
    known = len(tokenizer)
    model.resize_token_embeddings(VOCABULARY, mean_resizing=False)
    model.get_input_embeddings().weight[known:] = -direction / direction.norm()
    model.to(torch.bfloat16).save_pretrained(folder)


def as_row(question: str, answer: str, system: str | None = None) -> dict:
    before = [{"role": "system", "content": system}] if system else []
    prompt = [*before, {"role": "user", "content": question}]
    return {"prompt": prompt, "completion": [{"role": "assistant", "content": answer}]}


def judged_cells(notebook) -> list:
    """The code cells under "Did it learn?": from that heading to the next."""
    found, under = [], False
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and any(line.startswith("#") for line in cell.source.splitlines()):
            under = "# Did it learn?" in cell.source
        elif cell.cell_type == "code" and under:
            found.append(cell)
    return found


def prepare(path: Path, folder: Path, as_gpu: bool = False) -> Path:
    """A copy of a lesson that goes on behind a failed "Did it learn?" and reports its steps at the end."""
    notebook = nbformat.read(path, as_version=4)
    if as_gpu:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(AS_GPU, id="as-gpu"))
    for cell in judged_cells(notebook):
        cell.metadata.setdefault("tags", []).append("raises-exception")  # nbclient goes on behind it
    notebook.cells.append(nbformat.v4.new_code_cell(REPORT, id="steps-trained"))
    (folder / path.name).write_text(nbformat.writes(notebook), "utf-8")
    return folder / path.name


def outcome(notebook) -> tuple[str, list[str]]:
    """What the last cell printed of the steps, and what is wrong: errors that are no failed assert of "Did it learn?"."""
    faults, judged = [], {cell.id for cell in judged_cells(notebook)}
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", []):
            if output.output_type == "error" and not (output.ename == "AssertionError" and cell.id in judged):
                faults.append(f"cell {number} ({cell.id}): {output.ename}: {output.evalue[:200]}")
    texts = [output.get("text", "") for output in notebook.cells[-1].get("outputs", [])]
    return "".join(texts).strip() or "not reached", faults


def run_lesson(path: Path, model: str, dataset: str | None, to: Path, as_gpu: bool = False) -> list[str]:
    """Run one lesson against the Hub at HF_ENDPOINT; print how it went, return what was wrong."""
    settings = {"MODEL_NAME": model} | ({"DATASET_NAME": dataset} if dataset else {})
    settings |= {"USE_GPU": True} if as_gpu else {}
    start, faults = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder:
        try:
            run_lessons.run(prepare(path, Path(folder), as_gpu), settings, to / path.name)
        except run_lessons.LessonFailed as error:
            faults = [str(error)]
    notebook = nbformat.read(to / path.name, as_version=4)
    steps, found = outcome(notebook)
    unlearned = [c for c in judged_cells(notebook) if any(o.output_type == "error" for o in c.outputs)]
    word = "failed" if faults or found else "ran; no gain, as expected" if unlearned else "ran"
    print(f"{path.stem}, {model}: {word}, {time.perf_counter() - start:.0f} s; steps {steps}", flush=True)
    for fault in found or faults:
        print(f"    {fault}", flush=True)
    return [f"{path.stem}: {fault}" for fault in found or faults]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lessons", nargs="*", metavar="lesson", help="such as 03 04; all when none is given")
    parser.add_argument("--as-gpu", action="store_true", help="USE_GPU = True, with the CPU in the GPU's place")
    parser.add_argument("--model", help="another of the models, for all of these lessons")
    parser.add_argument("--to", type=Path, help="folder for the executed copies; a temporary one when none is given")
    parser.add_argument("--work", type=Path, help="folder for the repositories, used again when they are there")
    parser.add_argument("--notebooks", type=Path, default=NOTEBOOKS, help="folder of the lessons")
    parser.add_argument("--steps", type=int, default=300, help="steps for which the models are taught before")
    options = parser.parse_args()
    paths = {path.name[:2]: path for path in find_lessons(options.notebooks)}
    chosen = {}
    for lesson in options.lessons or paths:
        if lesson not in paths:
            parser.error(f"there is no lesson {lesson}, only {', '.join(paths)}")
        model, dataset = hub_names(paths[lesson])
        chosen[lesson] = (options.model or model, dataset)
        if wrong := wrong_names(lesson, *chosen[lesson]):
            parser.error(wrong)
    work = options.work or Path(tempfile.mkdtemp(prefix="hub_lessons_"))
    to = options.to or work / "executed"
    to.mkdir(parents=True, exist_ok=True)
    if not (work / "repositories").exists():
        stand_ins.make_all(work / "repositories", "wide")
    taught = {model for lesson, (model, _) in chosen.items() if lesson not in UNTAUGHT}
    for name in sorted({model for model, _ in chosen.values()}):
        folder = stand_ins.revision_folder(work / "repositories", "model", name)
        ready = folder.parent / ("taught" if name in taught else "enlarged")
        if not ready.exists():
            if name in taught:
                teach(folder, name, options.steps)
            enlarge(folder)
            ready.touch()
    faults = []
    with StandInHub(work / "repositories") as hub:
        os.environ |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(work / "home"), "HF_HUB_DISABLE_XET": "1"}
        os.environ |= {"COURSE_OUTPUTS": str(work / "outputs"), "PYTHONPATH": str(stand_ins.ROOT)}
        if options.as_gpu:
            os.environ["COURSE_BF16"] = "0"  # the library allows it for a GPU, or with use_cpu
        for lesson, (model, dataset) in chosen.items():
            faults += run_lesson(paths[lesson], model, dataset, to, options.as_gpu)
    print(f"executed copies: {to}\n{len(faults)} failures" if faults else f"executed copies: {to}\nnothing failed")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
