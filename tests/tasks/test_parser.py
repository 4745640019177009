import pytest
import yaml

from geoattn.errors import InputError
from geoattn.tasks._forces_fit import forces_parser, words_want_forces
from geoattn.tasks._molecules_fit import fit_parser
from geoattn.tasks._parser import UsageError, differences, expand_arguments, merged, recipe_names, recipe_path
from geoattn.tasks._sphere_fit import fit_parser as sphere_parser


def parse(*words: str):
    return fit_parser().parse_args(expand_arguments("molecules", list(words))).as_dict()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--model.hiden_channels", "4"],
            r"Unknown option --model.hiden-channels. Did you mean --model.hidden-channels",
        ),
        (["--trainer.max_epoch=4"], r"Unknown option --trainer.max-epoch. Did you mean --trainer.max-epochs"),
        (["--xyzzy-42"], r"Unknown option --xyzzy-42\. All options: geoattn molecules fit --help"),
        (["--model.hidden", "4"], r"Unknown option --model.hidden."),  # no silent abbreviation
        (["stray"], r"Unexpected argument 'stray'"),
        (["--model.hidden_channels", "wide"], r"model.hidden_channels: got 'wide', expected int"),
        (
            ["--model.name", "egn"],
            r"model.name: got 'egn', expected 'egnn', 'graph-attention' or null. Did you mean 'egnn'",
        ),
        (["--data.task", "7"], r"data.task: got '7', expected 'regression', 'classification', 'energy'\. All"),
        (["--seed"], r"--seed: expected one argument"),
        (["--recipe", "molecules-esl"], r"there is no recipe 'molecules-esl'. Did you mean 'molecules-esol'"),
        (["--recipe", "nowhere.yaml"], r"there is no file nowhere.yaml"),
    ],
)
def test_an_error_is_one_line_with_the_nearest_name(words, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse("--data", "a.csv", *words)
    assert "\n" not in str(caught.value)


def test_the_file_must_be_named():
    with pytest.raises(UsageError, match="Missing: --data"):
        parse()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model: {hiden_channels: 3}",
            "Unknown key 'model.hiden_channels' in the recipe. Did you mean 'model.hidden_ch",
        ),
        ("modle: {name: egnn}", "Unknown key 'modle.name' in the recipe. Did you mean 'model.name'"),
        ("model: {hidden_channels: wide}", "model.hidden_channels: got 'wide', expected int"),
        ("model: [", "parsing"),
    ],
)
def test_an_error_in_a_recipe(tmp_path, text, message):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(text)
    with pytest.raises(UsageError, match=message):
        parse("--data", "a.csv", "--recipe", str(recipe))


def test_short_forms(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("model: {dropout: 0.5, num_layers: 7}\ndata: {split: scaffold}")
    words = ["--data", "a.csv", "--model.num-layers=3", "--on-error", "skip", "--data.targets", "p,q", "--quiet"]
    config = parse(*words, "--recipe", str(recipe))
    assert config["data"]["file"] == "a.csv"
    assert config["model"]["num_layers"] == 3, "an option overrides the recipe wherever it stands"
    assert config["model"]["dropout"] == 0.5
    assert config["data"]["on_error"] == "skip"
    assert config["data"]["targets"] == ["p", "q"]
    assert config["quiet"] is True
    assert config["data"]["split"] == "scaffold"


@pytest.mark.parametrize("name", recipe_names("molecules"))
def test_every_recipe_parses_and_states_the_data(name):
    stated = yaml.safe_load(recipe_path("molecules", name).read_text())
    forces = stated["data"]["task"] == "forces"
    words = expand_arguments("molecules", ["--data", "a.csv", "--recipe", name])
    config = (forces_parser() if forces else fit_parser()).parse_args(words).as_dict()
    assert words_want_forces(words) == forces
    assert config["card"]["title"] == stated["card"]["title"]
    assert config["card"]["data_licence"] != "not stated"
    assert forces or set(config["card"]["targets"]) == set(config["data"]["targets"])


def test_lists_are_typed_with_commas():
    words = ["--data", "states.nc", "--data.inputs", "u,v", "--data.targets=z"]
    config = sphere_parser().parse_args(expand_arguments("sphere", words)).as_dict()
    assert config["data"]["inputs"] == ["u", "v"] and config["data"]["targets"] == ["z"]


def test_help_names_the_options_once(capsys):
    with pytest.raises(SystemExit) as left:
        parse("--help")
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert "usage: geoattn molecules fit --data FILE" in text
    assert "--data.graph" not in text and "--trainer.callbacks" not in text  # geoattn chooses them
    assert "your file, short for --data.file" in text


def test_merged_and_differences():
    first = {"a": 1, "b": {"c": 2, "d": None}}
    both = merged(first, {"b": {"c": 3}, "e": 4})
    assert both == {"a": 1, "b": {"c": 3, "d": None}, "e": 4}
    assert first["b"]["c"] == 2
    assert differences(first, both) == ["b.c", "e"]
    assert differences(both, merged(both, {})) == []


def test_usage_errors_can_be_caught_as_input_errors():
    assert issubclass(UsageError, InputError)
