"""The interoperability server on grpcio: server.py GENERATED ADDRESS:PORT"""
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

sys.path.insert(0, sys.argv[1])
import test_pb2 as pb  # noqa: E402
import test_pb2_grpc as rpc  # noqa: E402

INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"


def echo_metadata(context):
    told = dict(context.invocation_metadata())
    if INITIAL in told:
        context.send_initial_metadata([(INITIAL, told[INITIAL])])
    if TRAILING in told:
        context.set_trailing_metadata([(TRAILING, told[TRAILING])])


def end_as_asked(request, context):
    if request.HasField("response_status") and request.response_status.code:
        context.abort(grpc.StatusCode.__members__[NAMES[request.response_status.code]], request.response_status.message)


NAMES = {code.value[0]: name for name, code in grpc.StatusCode.__members__.items()}


def compress(context, wanted):
    context.set_compression(grpc.Compression.Gzip if wanted else grpc.Compression.NoCompression)


class Test(rpc.TestServiceServicer):
    def EmptyCall(self, request, context):
        echo_metadata(context)
        return pb.Empty()

    def UnaryCall(self, request, context):
        echo_metadata(context)
        end_as_asked(request, context)
        compress(context, request.response_compressed.value)
        return pb.SimpleResponse(payload=pb.Payload(body=bytes(request.response_size)))

    def StreamingInputCall(self, requests, context):
        return pb.StreamingInputCallResponse(aggregated_payload_size=sum(len(one.payload.body) for one in requests))

    def StreamingOutputCall(self, request, context):
        yield from outputs(request, context)

    def FullDuplexCall(self, requests, context):
        echo_metadata(context)
        for request in requests:
            end_as_asked(request, context)
            yield from outputs(request, context)


def outputs(request, context):
    for wanted in request.response_parameters:
        time.sleep(wanted.interval_us / 1e6)
        if wanted.HasField("compressed"):
            compress(context, wanted.compressed.value)
        yield pb.StreamingOutputCallResponse(payload=pb.Payload(body=bytes(wanted.size)))


server = grpc.server(ThreadPoolExecutor(40), compression=None)
rpc.add_TestServiceServicer_to_server(Test(), server)
server.add_insecure_port(sys.argv[2])
server.start()
server.wait_for_termination()
