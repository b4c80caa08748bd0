"""A helper of squid for Basic authentication: checks user name and password."""

import sys
import urllib.parse

name, password = sys.argv[1], urllib.parse.unquote(sys.argv[2])
for line in sys.stdin:
    given = [urllib.parse.unquote(part) for part in line.rstrip("\n").split(" ")]
    print("OK" if given == [name, password] else "ERR", flush=True)
