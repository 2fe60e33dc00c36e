"""Transfers of curl: curl_cases.py URL h1|h2 ROOT WORK [arguments of the way]"""
import hashlib
import os
import pathlib
import subprocess
import sys
import time

from cases import case, main, same

URL, SPOKEN, ROOT, WORK = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])
WAY = sys.argv[5:]
# Uploads of runs side by side are kept apart.
OWN = WORK.name
LARGE = (ROOT / "large.bin").read_bytes()
SPEAK = ["--http2-prior-knowledge"] if SPOKEN == "h2" else ["--http1.1"]


def curl(*words, code=0, speak=SPEAK, **more):
    argv = ["curl", "-q", "-sS", "--max-time", "25", *speak, *WAY, *words]
    env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(argv, capture_output=True, check=False, env=env, **more)
    if done.returncode != code:
        raise AssertionError(f"curl {' '.join(words[:6])}: exit {done.returncode}: {done.stderr.decode()[-200:]}")
    return done


def shown(*words, **more):
    """Status and headers by name, then the body."""
    file = WORK / "head"
    body = curl("-D", str(file), *words, **more).stdout
    last = file.read_text().strip().split("\n\n")[-1].splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in last[1:])}
    return int(last[0].split()[1]), headers, b"" if "-I" in words else body


def sent(path):
    return (ROOT / "put" / path).read_bytes()


@case
def large_file_is_whole():
    same(curl(f"{URL}/large.bin").stdout == LARGE, True)


@case
def empty_file():
    status, headers, body = shown(f"{URL}/empty.txt")
    same((status, headers["content-length"], body), (200, "0", b""))


@case
def version_is_the_one_asked_for():
    same(curl("-o", "/dev/null", "-w", "%{http_version}", f"{URL}/small.txt").stdout, b"2" if SPOKEN == "h2" else b"1.1")


@case
def resume_after_a_broken_download():
    file = WORK / "resumed"
    curl("--range", "0-4999999", "-o", str(file), f"{URL}/large.bin")
    curl("-C", "-", "-o", str(file), f"{URL}/large.bin")
    same(file.read_bytes() == LARGE, True)


@case
def range_and_its_end():
    same(curl("-r", "100-199", f"{URL}/large.bin").stdout == LARGE[100:200], True)
    same(curl("-r", "-5000", f"{URL}/large.bin").stdout == LARGE[-5000:], True)
    same(shown("-r", "99999999-", f"{URL}/large.bin")[0], 416)


@case
def several_ranges_in_one_answer():
    status, headers, _ = shown("-r", "0-9,100-109", f"{URL}/text.txt")
    same((status, headers["content-type"].startswith("multipart/byteranges")), (206, True))
    body = curl("-r", "0-9,100-109", f"{URL}/text.txt").stdout
    same(body.count(b"Content-Range: bytes"), 2)


@case
def head_tells_the_length():
    status, headers, body = shown("-I", f"{URL}/large.bin")
    same((status, headers["content-length"], body), (200, str(len(LARGE)), b""))


@case
def compressed_and_decoded():
    same(curl("--compressed", f"{URL}/zip/text.txt").stdout == (ROOT / "text.txt").read_bytes(), True)
    raw = curl("-H", "Accept-Encoding: gzip", f"{URL}/zip/text.txt").stdout
    same(raw[:2], b"\x1f\x8b")


@case
def not_modified():
    etag = shown("-I", f"{URL}/small.txt")[1]["etag"]
    same(shown("-H", f"If-None-Match: {etag}", f"{URL}/small.txt")[0], 304)
    same(curl("-z", str(ROOT / "small.txt"), "-o", "/dev/null", "-w", "%{http_code}", f"{URL}/small.txt").stdout, b"304")


@case
def no_content():
    status, headers, body = shown(f"{URL}/status/204")
    same((status, "content-length" in headers, body), (204, False, b""))


@case
def redirect_is_followed():
    same(curl("-L", f"{URL}/moved").stdout, b"small\n")


@case
def upload_with_a_length():
    curl("-T", str(ROOT / "large.bin"), f"{URL}/put/length-{OWN}")
    same(sent(f"length-{OWN}") == LARGE, True)


@case
def upload_in_chunks():
    chunked = ["-H", "Transfer-Encoding: chunked"] if SPOKEN == "h1" else []
    curl(*chunked, "-T", "-", f"{URL}/put/chunks-{OWN}", input=LARGE[:3_000_000])
    same(sent(f"chunks-{OWN}") == LARGE[:3_000_000], True)


@case
def upload_after_100_continue():
    words = ["--expect100-timeout", "20", "-H", "Expect: 100-continue", "-T", str(ROOT / "text.txt")]
    began = time.monotonic()
    said = curl("-v", *words, f"{URL}/put/expect-{OWN}").stderr
    same(sent(f"expect-{OWN}") == (ROOT / "text.txt").read_bytes(), True)
    same(time.monotonic() - began < 10, True, "at once")
    if SPOKEN == "h1":
        same(b"< HTTP/1.1 100 Continue" in said, True, "100 seen")


@case
def refusal_before_the_body_is_sent():
    words = ["--expect100-timeout", "20", "-H", "Expect: 100-continue", "-T", str(ROOT / "large.bin")]
    done = curl("-o", "/dev/null", "-w", "%{http_code} %{size_upload}", *words, f"{URL}/refuse")
    same(done.stdout.split()[0], b"413")
    same(int(done.stdout.split()[1]) < 1_000_000, True, "most of the body was not sent")


@case
def post_without_a_body():
    status, headers, _ = shown("-X", "POST", "-d", "", f"{URL}/asked")
    same((status, headers["x-method"]), (200, "POST"))
    if SPOKEN == "h1":
        same(headers.get("x-length"), "0")


@case
def methods_of_any_name():
    for method in ("OPTIONS", "PATCH", "PROPFIND", "PURGE"):
        same(shown("-X", method, f"{URL}/asked")[1].get("x-method"), method, method)


@case
def target_is_left_alone():
    told = curl("--path-as-is", "-g", f"{URL}/asked?a=%2F&b=[1]&c=%C3%BC&d=//../x").stdout.decode().split()
    same(told[0], "/asked?a=%2F&b=[1]&c=%C3%BC&d=//../x")
    same(told[1], URL.split("//")[1].split(":")[0])


@case
def delete_what_was_put():
    curl("-T", str(ROOT / "small.txt"), f"{URL}/put/deleted-{OWN}")
    same(shown("-X", "DELETE", f"{URL}/put/deleted-{OWN}")[0], 204)


@case
def slow_download_is_whole():
    same(curl(f"{URL}/slow/text.txt").stdout == (ROOT / "text.txt").read_bytes(), True)


@case
def slow_upload_is_whole():
    curl("--limit-rate", "200k", "-T", str(ROOT / "text.txt"), f"{URL}/put/slow-{OWN}")
    same(sent(f"slow-{OWN}") == (ROOT / "text.txt").read_bytes(), True)


@case
def one_connection_for_many():
    out = curl("-w", "%{num_connects}\n", *[word for _ in range(5) for word in ("-o", "/dev/null", f"{URL}/small.txt")]).stdout
    same(sum(map(int, out.split())), 1, "connections")


@case
def a_hundred_in_parallel():
    config = WORK / "parallel"
    lines = [f'url = "{URL}/text.txt?{number}"\noutput = "{WORK}/out-{number}"\n' for number in range(100)]
    config.write_text("".join(lines))
    curl("--parallel", "--parallel-max", "100", "-K", str(config))
    wanted = hashlib.sha256((ROOT / "text.txt").read_bytes()).digest()
    found = {hashlib.sha256((WORK / f"out-{number}").read_bytes()).digest() for number in range(100)}
    same(found == {wanted}, True)


@case
def aborted_downloads_do_no_harm():
    for _ in range(5):
        curl("--max-time", "0.3", "-o", "/dev/null", f"{URL}/slow/large.bin", code=28)
    same(curl(f"{URL}/small.txt").stdout, b"small\n")


if SPOKEN == "h2":

    @case
    def upgrade_from_http_1():
        done = curl("-w", "%{http_version}", f"{URL}/small.txt", speak=["--http2"])
        same(done.stdout in (b"small\n2", b"small\n1.1"), True, done.stdout)


if __name__ == "__main__":
    main()
