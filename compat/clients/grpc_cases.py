"""The interoperability client on grpcio: grpc_cases.py GENERATED ADDRESS:PORT"""
import sys
import threading
import time

import grpc
from cases import case, main, same

sys.path.insert(0, sys.argv[1])
import test_pb2 as pb  # noqa: E402
import test_pb2_grpc as rpc  # noqa: E402

CHANNEL = grpc.insecure_channel(sys.argv[2], options=[("grpc.enable_http_proxy", 0)])
STUB = rpc.TestServiceStub(CHANNEL)
Code = grpc.StatusCode
SENT, ANSWERED = (27182, 8, 1828, 45904), (31415, 9, 2653, 58979)
INITIAL, TRAILING = ("x-grpc-test-echo-initial", "test_initial_metadata_value"), ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab")


def payload(size):
    return pb.Payload(body=bytes(size))


def output(size, sent=0, interval_us=0):
    wanted = pb.ResponseParameters(size=size, interval_us=interval_us)
    return pb.StreamingOutputCallRequest(response_parameters=[wanted], payload=payload(sent))


def fails(code, call):
    try:
        call()
    except grpc.RpcError as error:
        same(error.code(), code, "status")
        return error
    raise AssertionError(f"no {code}")


class Talk:
    """Requests of a stream, handed in one by one."""

    def __init__(self):
        self.more, self.waiting, self.over = threading.Condition(), [], False

    def send(self, request):
        with self.more:
            self.waiting.append(request)
            self.more.notify()

    def end(self):
        with self.more:
            self.over = True
            self.more.notify()

    def __iter__(self):
        return self

    def __next__(self):
        with self.more:
            self.more.wait_for(lambda: self.waiting or self.over)
            if self.waiting:
                return self.waiting.pop(0)
        raise StopIteration


@case
def empty_unary():
    same(STUB.EmptyCall(pb.Empty()), pb.Empty())


@case
def large_unary():
    answer = STUB.UnaryCall(pb.SimpleRequest(response_size=314159, payload=payload(271828)))
    same(len(answer.payload.body), 314159)


@case
def client_compressed_unary():
    answer = STUB.UnaryCall(pb.SimpleRequest(response_size=314159, payload=payload(271828)), compression=grpc.Compression.Gzip)
    same(len(answer.payload.body), 314159)


@case
def server_compressed_unary():
    for wanted in (True, False):
        request = pb.SimpleRequest(response_size=314159, payload=payload(271828), response_compressed=pb.BoolValue(value=wanted))
        same(len(STUB.UnaryCall(request).payload.body), 314159)


@case
def client_streaming():
    requests = (pb.StreamingInputCallRequest(payload=payload(size)) for size in SENT)
    same(STUB.StreamingInputCall(requests).aggregated_payload_size, 74922)


@case
def client_compressed_streaming():
    requests = (pb.StreamingInputCallRequest(payload=payload(size)) for size in SENT)
    same(STUB.StreamingInputCall(requests, compression=grpc.Compression.Gzip).aggregated_payload_size, 74922)


@case
def server_streaming():
    request = pb.StreamingOutputCallRequest(response_parameters=[pb.ResponseParameters(size=size) for size in ANSWERED])
    same([len(answer.payload.body) for answer in STUB.StreamingOutputCall(request)], list(ANSWERED))


@case
def server_compressed_streaming():
    wanted = [pb.ResponseParameters(size=size, compressed=pb.BoolValue(value=size > 9)) for size in (31415, 58979)]
    request = pb.StreamingOutputCallRequest(response_parameters=wanted)
    same([len(answer.payload.body) for answer in STUB.StreamingOutputCall(request)], [31415, 58979])


@case
def ping_pong():
    talk = Talk()
    answers = STUB.FullDuplexCall(talk)
    for sent, answered in zip(SENT, ANSWERED):
        talk.send(output(answered, sent))
        same(len(next(answers).payload.body), answered)
    talk.end()
    same(list(answers), [])


@case
def empty_stream():
    same(list(STUB.FullDuplexCall(iter(()))), [])


@case
def cancel_after_begin():
    talk = Talk()
    call = STUB.StreamingInputCall.future(talk, metadata=[INITIAL])
    call.cancel()
    talk.end()
    same((call.cancelled(), call.code()), (True, Code.CANCELLED))


@case
def cancel_after_first_response():
    talk = Talk()
    answers = STUB.FullDuplexCall(talk)
    talk.send(output(31415, 27182))
    same(len(next(answers).payload.body), 31415)
    answers.cancel()
    fails(Code.CANCELLED, lambda: next(answers))
    talk.end()


@case
def timeout_on_sleeping_server():
    talk = Talk()
    answers = STUB.FullDuplexCall(talk, timeout=0.1)
    talk.send(output(31415, 27182, interval_us=1_000_000))
    began = time.monotonic()
    fails(Code.DEADLINE_EXCEEDED, lambda: next(answers))
    talk.end()
    same(time.monotonic() - began < 0.9, True, "in time")


@case
def status_code_and_message():
    status = pb.EchoStatus(code=2, message="test status message")
    same(fails(Code.UNKNOWN, lambda: STUB.UnaryCall(pb.SimpleRequest(response_status=status))).details(), status.message)
    requests = [pb.StreamingOutputCallRequest(response_status=status)]
    same(fails(Code.UNKNOWN, lambda: list(STUB.FullDuplexCall(iter(requests)))).details(), status.message)


@case
def special_status_message():
    message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
    status = pb.EchoStatus(code=2, message=message)
    same(fails(Code.UNKNOWN, lambda: STUB.UnaryCall(pb.SimpleRequest(response_status=status))).details(), message)


@case
def each_status_code():
    for code in Code:
        if code is not Code.OK:
            status = pb.EchoStatus(code=code.value[0], message=code.name)
            same(fails(code, lambda s=status: STUB.UnaryCall(pb.SimpleRequest(response_status=s))).details(), code.name)


@case
def unimplemented_method():
    method = CHANNEL.unary_unary("/grpc.testing.TestService/NoSuchCall", lambda _: b"", lambda answer: answer)
    fails(Code.UNIMPLEMENTED, lambda: method(b""))


@case
def unimplemented_service():
    fails(Code.UNIMPLEMENTED, lambda: rpc.UnimplementedServiceStub(CHANNEL).UnimplementedCall(pb.Empty()))


@case
def custom_metadata():
    request = pb.SimpleRequest(response_size=314159, payload=payload(271828))
    _, call = STUB.UnaryCall.with_call(request, metadata=[INITIAL, TRAILING])
    same((dict(call.initial_metadata())[INITIAL[0]], dict(call.trailing_metadata())[TRAILING[0]]), (INITIAL[1], TRAILING[1]))
    answers = STUB.FullDuplexCall(iter([output(314159, 271828)]), metadata=[INITIAL, TRAILING])
    same(len(next(answers).payload.body), 314159)
    same(list(answers), [])
    told = dict(answers.initial_metadata())[INITIAL[0]], dict(answers.trailing_metadata())[TRAILING[0]]
    same(told, (INITIAL[1], TRAILING[1]))


@case
def many_calls_at_once():
    calls = [STUB.UnaryCall.future(pb.SimpleRequest(response_size=size, payload=payload(100))) for size in range(1000, 1100)]
    same([len(call.result(20).payload.body) for call in calls], list(range(1000, 1100)))


@case
def a_long_stream_in_order():
    request = pb.StreamingOutputCallRequest(response_parameters=[pb.ResponseParameters(size=size) for size in range(2000)])
    same([len(answer.payload.body) for answer in STUB.StreamingOutputCall(request)], list(range(2000)))


if __name__ == "__main__":
    main()
