"""A served test: the invited take it and nobody else, their answers are kept once each, and nothing else is opened."""

import asyncio
import json
import stat
import threading

import jwt
import pytest
from socketio.exceptions import ConnectionError as ConnectionError_

from harmonia_lab.errors import InvalidRequest, Refused
from harmonia_lab.listening import home as home_module
from harmonia_lab.listening.home import ListeningHome, listener_role
from harmonia_lab.listening.make import serve_test, served_test
from tests.listening.songs import answered, make_study
from tests.server.conftest import Ear, serving
from tests.server.test_http import call


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("listening")
    with serving(folder, audit=True) as server:
        server.test = server.lab.listening_test(make_study(folder / "study", blocks=2), checks=1, listen_s=0.05, seed=1)
        server.other = server.lab.listening_test(folder / "study", seed=2)
        yield server


def ask(server, method, path, token=None, **options):
    return call(server, method, path, user=None if token is None else "ann", token=token, **options)


def invited(server, user="ann", test=None):
    return server.token(user, (listener_role((test or server.test).id),))


def answers_of(server, user="ann", **options):
    return answered(server.test.test.design, user, lambda shown: 0, **options)


def test_an_invited_listener_gets_test_and_sounds_without_what_they_are(served):
    base = f"/api/listening/{served.test.id}"
    status, _, body = ask(served, "GET", base, invited(served))
    assert status == 200
    assert not any(word in body.decode() for word in ("fast", "int8", "degraded", "folder", "better"))
    test = json.loads(body)["test"]
    sound = next(iter(test["seconds"]))
    status, headers, body = ask(served, "GET", f"{base}/sounds/{sound}", invited(served))
    assert (status, headers["Content-Type"]) == (200, "audio/mpeg")
    assert len(body) > 1000
    for name in ("s999", "key", "test"):
        assert ask(served, "GET", f"{base}/sounds/{name}", invited(served))[0] == 404


def test_an_invitation_opens_this_test_alone(served):
    token = invited(served)
    other = f"/api/listening/{served.other.id}"
    for path in (other, f"{other}/sounds/s001", "/api/listening", "/api/generations", "/api/engines", "/api/sounds"):
        assert ask(served, "GET", path, token)[0] in (401, 403), path
    assert ask(served, "POST", "/api/generations", token, data=b'{"narrative": "x"}')[0] == 401
    assert ask(served, "POST", f"{other}/answers", token, data=b"{}")[0] == 403
    both = served.token("ann", (listener_role(served.test.id), "admin"))
    assert ask(served, "GET", "/api/listening", both)[0] == 401  # an admin's role opens nothing more

    async def connect():
        async with Ear(served, token=token):
            pass

    with pytest.raises(ConnectionError_, match="namespaces failed"):
        asyncio.run(connect())


def test_other_tokens_open_no_test(served):
    path = f"/api/listening/{served.test.id}"
    for token in (served.token("ann"), served.token("root", ("admin",)), served.token("ann", ("listener",)), None):
        assert ask(served, "GET", path, token)[0] in (401, 403)
    assert ask(served, "GET", "/api/listening", served.token("ann"))[0] == 403
    status, _, body = ask(served, "GET", "/api/listening", served.token("root", ("admin",)))
    assert status == 200
    assert {each["id"] for each in json.loads(body)["tests"]} == {served.test.id, served.other.id}


def test_a_revoked_invitation_ends(served):
    token = invited(served, "zoe")
    assert ask(served, "GET", f"/api/listening/{served.test.id}", token)[0] == 200
    served.revoke(token_id=jwt.decode(token, options={"verify_signature": False})["jti"])
    assert ask(served, "GET", f"/api/listening/{served.test.id}", token)[0] == 401


def test_answers_are_kept_once_as_the_invited_listeners(served):
    path, token = f"/api/listening/{served.test.id}/answers", invited(served, "bob")
    plain = answers_of(served, "somebody else", seed=41)
    assert ask(served, "POST", path, token, data=json.dumps(plain).encode())[0] == 201
    changed = json.dumps(plain | {"complete": False, "answers": []}).encode()
    status, _, body = ask(served, "POST", path, token, data=changed)
    assert (status, json.loads(body)["kept"]) == (200, False)
    folder = served.lab.listening.answers(served.test.id)
    files = [each for each in folder.iterdir() if each.suffix == ".json"]
    kept = [json.loads(each.read_text()) for each in files if "0029" in each.name]
    (kept,) = [each for each in kept if each["seed"] == 41]
    assert (kept["listener"], kept["complete"], len(kept["answers"])) == ("bob", True, 3)
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in files)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 5000, b'{"harmoniaAnswers": 1}', b"x" * 300_000])
def test_what_is_no_answer_set_is_refused_and_leaves_nothing(served, body):
    before = sorted(served.lab.listening.answers(served.other.id).iterdir())
    token = invited(served, f"eve{len(body)}", served.other)
    status, _, answer = ask(served, "POST", f"/api/listening/{served.other.id}/answers", token, data=body)
    assert (status, json.loads(answer)["error"]["code"]) == (400, "INVALID_PAYLOAD")
    assert sorted(served.lab.listening.answers(served.other.id).iterdir()) == before


def test_the_page_is_the_same_for_everybody_and_lets_no_other_script_run(served):
    status, headers, body = ask(served, "GET", f"/listen/{served.test.id}")
    assert status == 200
    assert "script-src 'sha256-" in headers["Content-Security-Policy"]
    assert "'unsafe-inline'" not in headers["Content-Security-Policy"]
    assert ask(served, "GET", "/listen/0123456789ab")[2] == body


def test_a_home_keeps_so_many_answers_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(home_module, "MAX_ATTEMPTS", 2)
    monkeypatch.setattr(home_module, "MAX_SETS", 3)
    home = ListeningHome(tmp_path / "home" / "listening")
    test = serve_test(home, make_study(tmp_path / "study", blocks=1))
    design = test.test.design
    sets = [answered(design, "", lambda shown: 0, seed=n) for n in range(1, 6)]
    assert home.keep(test.id, "ann", sets[0])
    assert home.keep(test.id, "ann", sets[1])
    with pytest.raises(Refused, match="as many answers"):
        home.keep(test.id, "ann", sets[2])
    assert home.keep(test.id, "bob", sets[3])
    with pytest.raises(Refused, match="as many answers"):
        home.keep(test.id, "carla", sets[4])
    assert [each.answers for each in home.listed()] == [3]


def test_two_servers_that_keep_one_attempt_at_once_keep_it_once(tmp_path):
    homes = [ListeningHome(tmp_path / "listening") for _ in range(2)]
    test = serve_test(homes[0], make_study(tmp_path / "study", blocks=1))
    plain = answered(test.test.design, "", lambda shown: 0)
    found = []
    threads = [threading.Thread(target=lambda h=h: found.append(h.keep(test.id, "ann", plain))) for h in homes * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [False] * 7 + [True]


def test_ids_are_no_paths(tmp_path):
    home = ListeningHome(tmp_path / "listening")
    test = serve_test(home, make_study(tmp_path / "study", blocks=1))
    for wrong in ("..", "", "0" * 12, f"../listening/{test.id}", test.id.upper() + "x"):
        with pytest.raises(Refused, match="no such listening test"):
            home.folder(wrong)
    for wrong in ("../key.json", "../../x", "s1", ""):
        with pytest.raises(Refused, match="no such sound"):
            home.sound(test.id, wrong)
    with pytest.raises(InvalidRequest, match="another test"):
        home.keep(test.id, "ann", answered(test.test.design, "", lambda shown: 0) | {"test": "f" * 12})
    assert served_test(home, test.id).test.design.id == test.id
