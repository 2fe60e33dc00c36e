"""What programs do with httpx against httpbin: httpx_cases.py URL h1|h2"""
import asyncio
import sys

import httpx
from cases import case, main, same

URL, SPOKEN = sys.argv[1], sys.argv[2]
H2 = {"http1": SPOKEN == "h1", "http2": SPOKEN == "h2", "trust_env": False, "timeout": 20}
CLIENT = httpx.Client(base_url=URL, **H2)


def ask(method, path, status=200, **more):
    response = CLIENT.request(method, path, **more)
    same(response.status_code, status, "status")
    same(response.http_version, "HTTP/2" if SPOKEN == "h2" else "HTTP/1.1", "version")
    return response


@case
def get_has_its_query_and_headers():
    told = ask("GET", "/get", params={"a": ["1", "2 3"], "ü": "&=/?"}, headers={"X-Own": "kept"}).json()
    same(told["args"], {"a": ["1", "2 3"], "ü": "&=/?"})
    same(told["headers"]["X-Own"], "kept")


@case
def host_is_the_one_asked_for():
    same(ask("GET", "/headers").json()["headers"]["Host"], URL.split("//")[1].rstrip("/"))


@case
def methods_with_bodies():
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        told = ask(method, f"/{method.lower()}", json={"method": method}).json()
        same(told["json"], {"method": method}, method)


@case
def head_has_the_length_and_no_body():
    response = ask("HEAD", "/bytes/1234?seed=1")
    same(response.content, b"")
    same(response.headers["content-length"], "1234")


@case
def options_lists_methods():
    same("POST" in ask("OPTIONS", "/post").headers["allow"], True)


@case
def form_and_multipart():
    same(ask("POST", "/post", data={"a": "1", "b": ["2", "3"]}).json()["form"], {"a": "1", "b": ["2", "3"]})
    told = ask("POST", "/post", files={"file": ("a.txt", b"x" * 70_000, "text/plain")}, data={"k": "v"}).json()
    same((len(told["files"]["file"]), told["form"]), (70_000, {"k": "v"}))


@case
def chunked_upload_from_a_generator():
    told = ask("POST", "/post", content=(b"%05d" % number for number in range(2000))).json()
    same(told["data"], "".join(f"{number:05}" for number in range(2000)))


@case
def upload_of_5_mb():
    body = bytes(range(256)) * 20_000
    told = ask("PUT", "/put", content=body, headers={"content-type": "application/octet-stream"}).json()
    same(told["headers"]["Content-Length"], str(len(body)))
    same(len(told["data"]) > len(body), True)


@case
def download_is_whole_and_in_order():
    letters = bytes(range(ord("a"), ord("z") + 1))
    same(ask("GET", "/range/100000").content == (letters * 4000)[:100_000], True)


@case
def streamed_lines_come_one_by_one():
    with CLIENT.stream("GET", "/stream/50") as response:
        same(sum(1 for line in response.iter_lines() if line), 50)


@case
def streamed_bytes_in_chunks():
    with CLIENT.stream("GET", "/stream-bytes/50000?seed=3&chunk_size=777") as response:
        same(sum(map(len, response.iter_bytes())), 50_000)


@case
def drip_arrives_whole():
    same(len(ask("GET", "/drip?duration=1&numbytes=5&delay=0").content), 5)


@case
def compressed_answers():
    same(ask("GET", "/gzip").json()["gzipped"], True)
    same(ask("GET", "/deflate").json()["deflated"], True)
    same(ask("GET", "/brotli").json()["brotli"], True)


@case
def a_compressed_answer_keeps_its_bytes():
    with CLIENT.stream("GET", "/gzip") as response:
        raw = b"".join(response.iter_raw())
    same((raw[:2], response.headers["content-length"]), (b"\x1f\x8b", str(len(raw))))


@case
def redirects_relative_absolute_and_to_a_url():
    for path in ("/redirect/5", "/relative-redirect/3", "/absolute-redirect/3"):
        response = CLIENT.get(path, follow_redirects=True)
        same((response.status_code, response.url.path), (200, "/get"), path)
    for status in (301, 302, 303, 307, 308):
        response = CLIENT.post(f"/redirect-to?url=/anything&status_code={status}", follow_redirects=True, content=b"b")
        same(response.json()["method"], "POST" if status in (307, 308) else "GET", str(status))


@case
def cookies_are_set_kept_and_deleted():
    with httpx.Client(base_url=URL, follow_redirects=True, **H2) as client:
        client.get("/cookies/set?a=1&b=2")
        same(client.get("/cookies").json()["cookies"], {"a": "1", "b": "2"})
        same(client.get("/cookies/delete?a=").json()["cookies"], {"b": "2"})


@case
def authentication():
    same(ask("GET", "/basic-auth/user/pass", auth=("user", "pass")).json()["authenticated"], True)
    ask("GET", "/basic-auth/user/pass", 401)
    ask("GET", "/hidden-basic-auth/user/pass", 404)
    same(ask("GET", "/bearer", headers={"Authorization": "Bearer t"}).json()["token"], "t")
    for algorithm in ("MD5", "SHA-256"):
        url = f"/digest-auth/auth/user/pass/{algorithm}"
        same(ask("GET", url, auth=httpx.DigestAuth("user", "pass")).json()["authenticated"], True, algorithm)


@case
def each_status_is_passed_on():
    for status in [*range(200, 209), 226, *range(300, 309), *range(400, 419), *range(421, 432), 451, *range(500, 512)]:
        same(CLIENT.get(f"/status/{status}").status_code, status, "status")
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        same(CLIENT.request(method, "/status/503").status_code, 503, method)


@case
def conditional_requests():
    same(ask("GET", "/etag/abc", headers={"If-None-Match": "abc"}, status=304).content, b"")
    ask("GET", "/etag/abc", headers={"If-Match": "other"}, status=412)
    same(ask("GET", "/cache", headers={"If-Modified-Since": "x"}, status=304).content, b"")
    same(ask("GET", "/cache/60").headers["cache-control"], "public, max-age=60")


@case
def ranges():
    response = ask("GET", "/range/1024", 206, headers={"Range": "bytes=10-19"})
    same((response.headers["content-range"], len(response.content)), ("bytes 10-19/1024", 10))
    ask("GET", "/range/1024", 416, headers={"Range": "bytes=9999-"})


@case
def repeated_and_odd_headers():
    response = ask("GET", "/response-headers", params=[("X-Many", "1"), ("X-Many", "2"), ("X-Empty", "")])
    same(response.headers.get_list("x-many"), ["1", "2"])
    same(response.headers["x-empty"], "")
    same(ask("GET", "/headers", headers={"X-Long": "v" * 6000}).json()["headers"]["X-Long"], "v" * 6000)


@case
def paths_are_left_alone():
    for path in ("/anything/a%2Fb", "/anything/a//b", "/anything/%C3%BC;v=1", "/anything/a/../b?x=%20+%26"):
        response = ask("GET", httpx.URL(URL.rstrip("/")).copy_with(raw_path=path.encode()))
        same(response.status_code, 200, path)
        same(ask("GET", httpx.URL(URL.rstrip("/")).copy_with(raw_path=path.encode())).json()["url"], response.json()["url"])


@case
def text_in_utf8_and_binary_types():
    same("STARGΛ̊TE" in ask("GET", "/encoding/utf8").text, True)
    for kind, magic in (("png", b"\x89PNG"), ("jpeg", b"\xff\xd8"), ("webp", b"RIFF"), ("svg", b"<")):
        response = ask("GET", f"/image/{kind}")
        same((response.content[: len(magic)], response.headers["content-type"].split("/")[0]), (magic, "image"), kind)


@case
def a_slow_answer_is_waited_for():
    same(ask("GET", "/delay/3").status_code, 200)


@case
def an_impatient_caller_may_go_on():
    for _ in range(3):
        try:
            CLIENT.get("/delay/2", timeout=0.2)
        except httpx.ReadTimeout:
            continue
        raise AssertionError("no time-out")
    same(ask("GET", "/get").status_code, 200)


@case
def half_read_answers_do_no_harm():
    for _ in range(5):
        with CLIENT.stream("GET", "/stream-bytes/100000?chunk_size=1000") as response:
            next(response.iter_raw())
    same(ask("GET", "/get").status_code, 200)


@case
def a_hundred_at_once():
    async def all_of_them():
        async with httpx.AsyncClient(base_url=URL, **H2) as client:
            answers = await asyncio.gather(*[client.get("/anything", params={"n": n}) for n in range(100)])
        same([int(answer.json()["args"]["n"]) for answer in answers], list(range(100)))

    asyncio.run(all_of_them())


if __name__ == "__main__":
    main()
