"""Where an upstream may be."""

import pytest

from tocsin.gateway.addresses import host_of, is_loopback, url_complaint


@pytest.mark.parametrize(
    "url",
    [
        "https://models.example/v1",
        "https://models.example:8443/openai/v1/",
        "http://127.0.0.1:8000/v1",
        "http://localhost:11434/v1",
        "http://10.1.2.3/v1",
        "http://192.168.0.7:8000",
        "http://[::1]:8000/v1",
        "http://[fd12:3456::1]/v1",
        "http://vllm/v1",
    ],
)
def test_public_private_and_loopback_hosts_are_allowed(url: str) -> None:
    assert url_complaint(url) == ""


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.1.1",
        "169.254.169.254.",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[::ffff:169.254.169.254]",
        "[2002:a9fe:a9fe::]",
        "[2001:0:c000:201::5601:5601]",
        "[64:ff9b::a9fe:a9fe]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "168.63.129.16",
        "metadata.google.internal",
        "METADATA.google.internal.",
        "metadata",
    ],
)
def test_link_local_and_metadata_hosts_are_refused(host: str) -> None:
    assert "metadata" in url_complaint(f"http://{host}/v1")


@pytest.mark.parametrize(
    "host",
    ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.16689662", "1.2.3", "1.2.3.4.5"],
)
def test_addresses_in_disguise_are_refused(host: str) -> None:
    assert "four decimal numbers" in url_complaint(f"http://{host}/v1")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "begin with https://"),
        ("models.example/v1", "begin with https://"),
        ("ftp://models.example", "begin with https://"),
        ("file:///etc/passwd", "begin with https://"),
        ("https://", "begin with https://"),
        ("https://u:p@models.example", "a user or a password"),
        ("https://u@models.example", "a user or a password"),
        ("https://@models.example", "a user or a password"),
        ("https://models.example/v1?key=1", "leave out"),
        ("https://models.example/v1#a", "leave out"),
        ("https://models.example:0/", "port 0"),
        ("https://models.example:99999/", "no URL"),
        ("https://[::1/", "no URL"),
        ("https://models .example/", "white space"),
        ("https://models.example/\n", "white space"),
        ("https://models.example\\@other.example/", "backslash"),
        ("https://mödels.example/", "not ASCII"),
        ("http://0.0.0.0/", "names no host"),
        ("http://[::]/", "names no host"),
        ("http://224.0.0.1/", "names no host"),
    ],
)
def test_what_is_no_place_of_a_model_is_refused(url: str, said: str) -> None:
    assert said in url_complaint(url)


def test_a_complaint_never_repeats_the_url() -> None:
    for url in ("https://u:hunter2@models.example", "hunter2", "https://m.example?hunter2"):
        assert "hunter2" not in url_complaint(url)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
        ("LOCALHOST.", True), ("::ffff:127.0.0.1", True), ("::", False),
        ("2002:7f00:1::", False), ("64:ff9b::7f00:1", False),
        ("2001:0:c000:201::80ff:fffe", False),
        ("0.0.0.0", False),  # noqa: S104 - it is what is told apart
        ("10.0.0.1", False), ("models.example", False), ("127.0.0.1.example", False), ("", False),
    ],
)  # fmt: skip
def test_only_what_this_machine_alone_reaches_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_the_host_of_a_url() -> None:
    assert host_of("http://[::1]:80/v1") == "::1"
