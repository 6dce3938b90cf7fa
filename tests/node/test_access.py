"""API keys and the operator's token."""

import stat

import pytest

from node.access import Access, BadToken, UnknownKey, operator_token, same_token


@pytest.fixture
def access(tmp_path):
    made = Access(tmp_path / "access.sqlite3")
    yield made
    made.close()


def test_a_key_works_until_it_is_revoked(access):
    key, made = access.create("agent", now_s=10)
    assert access.check(key, now_s=20).id == made.id
    access.revoke(made.id, now_s=30)
    assert access.check(key, now_s=40) is None
    assert access.listing() == []


def test_only_a_hash_is_kept(access, tmp_path):
    key, _ = access.create("agent", now_s=10)
    access.close()
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key.encode() not in files
    assert key[4:].encode() not in files


def test_keys_outlive_the_process_and_say_when_they_were_used(tmp_path):
    first = Access(tmp_path / "a.sqlite3")
    key, made = first.create("agent", now_s=10)
    first.check(key, now_s=100)
    first.close()
    second = Access(tmp_path / "a.sqlite3")
    assert [one.used_s for one in second.listing()] == [100]
    assert second.check(key, now_s=101).id == made.id
    second.close()


@pytest.mark.parametrize("given", ["", "hsk_", "hsk_" + "a" * 43, "x" * 10_000, "hsk_" + "é" * 40])
def test_what_is_no_key_is_none(access, given):
    access.create("agent", now_s=10)
    assert access.check(given, now_s=10) is None


def test_revoking_nothing_says_so(access):
    with pytest.raises(UnknownKey, match="hansa keys list"):
        access.revoke("nope", now_s=1)


def test_the_token_is_made_once_and_private(tmp_path):
    path = tmp_path / "operator.token"
    token = operator_token(path)
    assert operator_token(path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert same_token(token, token)
    assert not same_token(token + "x", token)


def test_an_empty_token_file_is_no_token(tmp_path):
    (tmp_path / "t").write_text("\n")
    (tmp_path / "t").chmod(0o600)
    with pytest.raises(BadToken, match="holds no token"):
        operator_token(tmp_path / "t")
