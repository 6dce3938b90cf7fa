"""Settings: where each comes from, and what is said of a wrong one."""

import re
from pathlib import Path

import pytest

from node.config import BadSettings, Settings, load_settings, scope_of


def test_flags_win_over_environment_over_file_over_defaults(tmp_path):
    file = tmp_path / "hansa.toml"
    file.write_text(
        '[api]\nport = 1\n[log]\nlevel = "debug"\n[p2p]\nlisten = "/ip4/1.2.3.4/tcp/5"\n'
    )
    loaded = load_settings(
        file,
        ["api.port=3"],
        {"HANSA_API__PORT": "2", "HANSA_NODE__NETWORK": "lab", "HANSA_NODE": "x"},
    )
    assert loaded.settings.api.port == 3
    assert loaded.settings.node.network == "lab"
    assert loaded.settings.log.level == "debug"
    assert loaded.settings.p2p.listen == ("/ip4/1.2.3.4/tcp/5",)
    origins = {one.key: one.origin for one in loaded.listing()}
    assert origins["api.port"] == "flag"
    assert origins["node.network"] == "environment HANSA_NODE__NETWORK"
    assert origins["log.level"] == f"file {file}"
    assert origins["peer.port"] == "default"


def test_what_is_wanted_is_all_or_what_is_named():
    assert scope_of(load_settings().settings).is_all
    owner = "ab" * 32
    loaded = load_settings(None, [f"sync.owners={owner}", "sync.kinds=agent"])
    scope = scope_of(loaded.settings)
    assert [kind.name for kind in scope.kinds] == ["AGENT"]
    assert [one.hex() for one in scope.owners or ()] == [owner]


def test_every_setting_says_what_it_is_and_why():
    for one in load_settings().listing():
        assert len(one.about) > 20, one.key


def test_lists_and_nothing_are_read_from_text():
    loaded = load_settings(None, ["p2p.bootstrap=/a, /b", "node.key_file="])
    assert loaded.settings.p2p.bootstrap == ("/a", "/b")
    assert loaded.settings.node.key_file is None


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("api.prot=1", "did you mean 'api.port'"),
        ("api.port=many", "api.port = 'many'"),
        ("api.port=70000", "65535"),
        ("api.host=0.0.0.0", "api.public = true"),
        ("api.port=8421", "both 8421"),
        ("api.port=4001", "both 4001"),
        ("peer.port=4001", "both 4001"),
        ("api.body_bytes_max=100000", "a record as JSON may take 393216"),
        ("api.port", "section.key=value"),
        ("nothing.here=1", "there is no setting 'nothing.here'"),
        ("engines.device=tpu", "'auto', 'cpu' or 'cuda'"),
        ("sync.kinds=dataset", "'model' or 'agent'"),
        ("sync.kinds=", "name model, agent or both"),
        ("sync.owners=ann", "'ann' is not an account: 64 digits"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_a_way_out(flag, said):
    with pytest.raises(BadSettings, match=r"flag|api|peer") as caught:
        load_settings(None, [flag])
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["[api", "port = 1", '[api]\nport = "x"\n', "[api]\nprot = 1"])
def test_a_wrong_file_is_named(tmp_path, text):
    file = tmp_path / "hansa.toml"
    file.write_text(text)
    with pytest.raises(BadSettings, match=r"hansa\.toml"):
        load_settings(file)


def test_another_address_needs_an_explicit_yes():
    settings = load_settings(None, ["api.host=0.0.0.0", "api.public=true"]).settings
    assert settings.api.host == "0.0.0.0"


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Settings().api.port = 1


def test_every_setting_is_read_somewhere():
    """A setting that nothing reads does nothing; each name stands after `settings.section.`."""
    root = Path(__file__).resolve().parents[2]
    program = "".join(
        path.read_text()
        for folder in ("node", "inference")
        for path in (root / folder).rglob("*.py")
    )
    own = {"builds.folder", "engines.folder", "node.key_file", "api.public"}
    for one in load_settings().listing():
        pattern = rf"self\.{one.key}\b" if one.key in own else rf"settings\.{one.key}\b"
        assert re.search(pattern, program), f"nothing reads {one.key}"


@pytest.mark.parametrize("text", ["main", "main:work=1", "a.b-c_9:work=32"])
def test_a_network_is_a_name_and_perhaps_a_rule(text: str) -> None:
    assert load_settings(None, [f"node.network={text}"]).settings.node.network == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Main", r"'Main' is no network; .* for example main:work=14"),
        ("main:work", "is no network"),
        ("main:work=07", "is no network"),
        ("main:work=33", "asks for 33 bits of work; at most 32"),
    ],
)
def test_a_network_that_cannot_be_is_refused_with_what_to_write(text: str, says: str) -> None:
    with pytest.raises(BadSettings, match=f"(?s)node.network.*{says}"):
        load_settings(None, [f"node.network={text}"])


P = "12D3KooWBCbqBQDFyuPNPpcMHY4ePScRocXh9hPzh7xpPwFa3As9"
AT = f"p2p.bootstrap=/ip4/8.8.4.4/tcp/4001/p2p/{P}"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["p2p.peer_count_max=4"], "p2p.outbound_count is 8, but p2p.peer_count_max is 4"),
        (["p2p.deny=nobody"], "'nobody' is neither a peer id nor a network"),
        (["p2p.allow=10.0.0.1/8"], "has host bits set"),
        ([AT, "p2p.deny=8.8.0.0/16"], "which p2p.allow or p2p.deny keeps out"),
        ([AT, f"p2p.deny={P}"], "which p2p.allow or p2p.deny keeps out"),
        ([AT, "p2p.allow=10.0.0.0/8"], "which p2p.allow or p2p.deny keeps out"),
    ],
)
def test_lists_of_peers_that_contradict_each_other_are_refused_at_start(flags, said):
    with pytest.raises(BadSettings) as caught:
        load_settings(None, flags)
    assert said in str(caught.value)


def test_lists_of_peers_that_agree_are_taken():
    settings = load_settings(None, [AT, f"p2p.allow=10.0.0.0/8, {P}", "p2p.deny=10.6.0.0/16"])
    assert settings.settings.p2p.allow == ("10.0.0.0/8", P)
