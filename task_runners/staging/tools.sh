# Fetching and handing in one file with what an image has. POSIX sh; lines that begin with # are left out.
# Whoever uses this has said `set -f`, since headers are split at line ends.
nl='
'
has() { command -v "$1" >/dev/null 2>&1; }
has_python() { has python3 && python3 -c 'import urllib.request' 2>/dev/null; }
can_wget() { has wget && wget --help 2>&1 | grep -q -e "$1"; }
again() {
  "$@" && return
  sleep 1
  "$@" && return
  sleep 3
  "$@"
}
# An address that begins with a dot is a file beside which the container began: engines that move files know these.
here=$PWD
get() {
  case $1 in .*) cat "$here/$1" >"$2"; return ;; esac
  if has curl; then curl -q -fsSL -o "$2" "$1"
  elif has wget; then wget -q -O "$2" "$1"
  else python3 -c 'import shutil, sys, urllib.request as r
with r.urlopen(sys.argv[1]) as a, open(sys.argv[2], "wb") as f: shutil.copyfileobj(a, f)' "$1" "$2"; fi
}
# put FILE URL HEADERS; headers one a line, as `Name: value`
put() {
  file=$1 url=$2 headers=$3
  IFS=$nl
  case $url in .*) cat "$file" >"$here/$url"; return ;; esac
  case $(tool "$url") in
  curl)
    set --
    for line in $headers; do set -- "$@" -H "$line"; done
    curl -q -fsS -o /dev/null -T "$file" "$@" "$url" ;;
  python3)
    python3 -c 'import os, sys, urllib.request as r
name, url, *lines = sys.argv[1:]
h = dict(l.split(": ", 1) for l in lines)
h = {"Content-Type": "application/octet-stream", **h, "Content-Length": str(os.path.getsize(name))}
with open(name, "rb") as f: r.urlopen(r.Request(url, f, h, method="PUT")).close()' "$file" "$url" $headers ;;
  wget)
    set --
    for line in $headers; do set -- "$@" "--header=$line"; done
    wget -q -O /dev/null --header=Content-Type:application/octet-stream --method=PUT "--body-file=$file" "$@" "$url" ;;
  nc)
    rest=${url#http://}
    host=${rest%%/*} path=/${rest#*/}
    port=${host##*:}
    [ "$port" != "$host" ] || port=80
    {
      printf 'PUT %s HTTP/1.0\r\nHost: %s\r\nContent-Length: %s\r\n' "$path" "$host" "$(wc -c <"$file")"
      for line in $headers; do printf '%s\r\n' "$line"; done
      printf '\r\n'
      cat "$file"
    } | nc "${host%:*}" "$port" | grep -q '^HTTP/1.[01] 2' ;;
  *) return 1 ;;
  esac
}
# The wget of busybox can fetch but not send: it has no PUT, and ends a file that it posts at the first zero byte.
tool() {
  case $1 in .*) echo cat; return ;; esac
  if has curl; then echo curl
  elif can_wget --body-file; then echo wget
  elif has_python; then echo python3
  else case $1 in http:*) ! has nc || echo nc ;; esac; fi
}
