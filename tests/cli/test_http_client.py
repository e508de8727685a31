"""Which server is asked, what is tried again and what never is, and how each failure ends."""

import socket
import threading

import pytest

from cli.bootstrap import Server, parse_server
from cli.failure import Failure
from cli.http_client import HttpClient, OutcomeUnknown


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", Server("http", "localhost", 8082)),
        ("10.0.0.1:80", Server("http", "10.0.0.1", 80)),
        ("http://a:1/", Server("http", "a", 1)),
        ("https://a:1", Server("https", "a", 1)),
        ("[::1]:8082", Server("http", "::1", 8082)),
        ("[::1]", Server("http", "::1", 8082)),
    ],
)
def test_a_server_is_written_as_people_write_it(text, expected):
    assert expected == parse_server(text)


@pytest.mark.parametrize("text", ["ftp://a:1", "a:b", ":8082", "a:0", "a:70000", "::1:8082", "a/b:1"])
def test_what_is_no_server_is_a_usage_error(text):
    with pytest.raises(Failure) as caught:
        parse_server(text)
    assert 2 == caught.value.exit_code


def test_the_next_server_is_asked_where_one_is_down(kraft, cluster):
    ended = kraft("topic", "list", "-b", f"127.0.0.1:{closed_port()},{cluster.address}")
    assert 0 == ended.code


def test_nobody_there_ends_with_5_and_says_what_to_look_at(kraft):
    ended = kraft("topic", "list", "-b", f"127.0.0.1:{closed_port()}")
    assert 5 == ended.code
    assert "connection refused" in ended.err
    assert "kraft up" in ended.err


def test_a_node_that_takes_a_question_and_is_silent_is_left_for_the_next(kraft, cluster, monkeypatch):
    monkeypatch.setattr("cli.http_client.READ_ATTEMPT_S", 2)
    with socket.create_server(("127.0.0.1", 0)) as paused:
        ended = kraft("topic", "list", "-b", f"127.0.0.1:{paused.getsockname()[1]},{cluster.address}")
    assert 0 == ended.code


def test_a_closed_kafka_port_is_told_with_the_http_port(kraft, monkeypatch):
    port = closed_port()
    monkeypatch.setattr("cli.http_client.usual_http_port", lambda given: 8082 if given == port else None)
    assert "-b 127.0.0.1:8082" in kraft("topic", "list", "-b", f"127.0.0.1:{port}").err


def test_a_port_that_speaks_kafka_is_told_with_the_http_port(kraft, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.recv(1000)
                connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        monkeypatch.setattr("cli.http_client.usual_http_port", lambda given: 8082 if given == port else None)
        ended = kraft("topic", "list", "-b", f"127.0.0.1:{port}")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    assert 5 == ended.code
    assert "does not speak HTTP" in ended.err
    assert "-b 127.0.0.1:8082" in ended.err


@pytest.mark.parametrize(
    ("status", "code"), [(401, 6), (403, 6), (404, 3), (409, 4), (400, 1), (422, 1), (500, 1), (507, 5)]
)
def test_each_refusal_has_its_exit_code(kraft, cluster, status, code):
    cluster.rules.append(lambda *_: (status, {"error_code": status, "message": "no"}))
    ended = kraft("topic", "list")
    assert (code, "kraft: no\n") == (ended.code, ended.err)


def test_not_now_is_asked_again_until_it_works(kraft, cluster):
    left = [503, 503]
    cluster.rules.append(lambda *_: (left.pop(), {"error_code": 50003, "message": "no leader"}) if left else None)
    assert 0 == kraft("topic", "list").code
    assert 3 == len(cluster.requests)


def test_not_now_ends_with_the_servers_words_when_the_time_is_up(kraft, cluster):
    cluster.rules.append(lambda *_: (503, {"error_code": 50003, "message": "no leader yet"}))
    ended = kraft("topic", "list", "--timeout", "3")
    assert (5, "kraft: no leader yet\n") == (ended.code, ended.err)


def test_a_read_is_repeated_when_the_connection_breaks(kraft, cluster):
    left = ["drop"]
    cluster.rules.append(lambda *_: left.pop() if left else None)
    assert 0 == kraft("topic", "list").code


def test_a_write_is_never_repeated_when_the_connection_breaks(cluster):
    cluster.rules.append(lambda method, _: "drop" if method == "POST" else None)
    client = HttpClient([parse_server(cluster.address)], timeout_s=5)
    client.get_list("/v3/clusters/-/topics")
    with pytest.raises(OutcomeUnknown, match="may have been done"):
        client.send("POST", "/v3/clusters/-/topics", {"topic_name": "a"})
    assert 1 == sum(method == "POST" for method, _ in cluster.requests)


def test_a_connection_that_was_closed_while_idle_costs_nothing(cluster):
    client = HttpClient([parse_server(cluster.address)], timeout_s=5)
    client.get_list("/v3/clusters/-/topics")
    assert client._connection is not None
    client._connection.sock.shutdown(socket.SHUT_RDWR)
    assert "a" == client.send("POST", "/v3/clusters/-/topics", {"topic_name": "a"})["topic_name"]
    client.close()


def test_an_answer_that_is_no_json_is_still_told(kraft, cluster):
    cluster.rules.append(lambda *_: (502, None))
    ended = kraft("topic", "list")
    assert 5 == ended.code
    assert "502" in ended.err
