# Asks for a URL again and again until the file STOP is there, then tells how that went.
# requests.py HOST PORT STOP
import http.client, json, os, sys, time

host, port, stop = sys.argv[1], int(sys.argv[2]), sys.argv[3]
good, failed = 0, []
while not os.path.exists(stop):
    try:
        connection = http.client.HTTPConnection(host, port, timeout=60)
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            good += 1
        else:
            failed.append(f"{answer.status} {answer.getheader('starling-error')}")
        connection.close()
    except OSError as error:
        failed.append(repr(error))
    if good == 1:
        print("serving", flush=True)
    time.sleep(0.02)
print(json.dumps({"good": good, "failed": failed}), flush=True)
