# What runs in a container of a cloud in place of the command of a task. POSIX sh; lines that begin with # are left out.
#
# It fetches the archive of the working directory, runs the command there, passes SIGTERM on, hands in the files and a
# report, and ends as the command ended. The archive brings two scripts: .mainstem/job with the addresses to hand in to,
# .mainstem/run with the environment and the command. Without an archive the second comes in MAINSTEM_RUN.
# On the way here, Batch would replace Ref::name, and Kubernetes two dollars and a name in brackets after one.
set -fu
umask 022
push_url= push_headers= report_url= report_headers= file_blocks= archive_blocks=
end=${MAINSTEM_END-}
say() { printf 'mainstem: %s\n' "$*" >&2; }
finish() { [ -z "$end" ] || { printf '%s-1\n' "$end"; printf '%s-2\n' "$end" >&2; }; rm -rf "$room"; exit "$1"; }
trap 'finish 143' TERM INT
room=${TMPDIR:-/tmp}/.$end
mkdir -p "${TMPDIR:-/tmp}" && mkdir -m 700 "$room" || { room=; say "the image has no folder for temporary files"; finish 125; }

report() {
  [ -n "$report_url" ] || return 0
  printf '%s\n' "$@" >"$room/report"
  again put "$room/report" "$report_url" "$report_headers" || say "the report cannot be handed in"
}
fail() { say "$2"; report "fault=$1"; finish 125; }
measure() {
  oom= peak= cpu=
  for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
    [ ! -r "$file" ] || while read -r key value; do [ "$key" != oom_kill ] || oom=$value; done <"$file"
  done
  for file in /sys/fs/cgroup/memory.peak /sys/fs/cgroup/memory/memory.max_usage_in_bytes; do
    [ ! -r "$file" ] || read -r peak <"$file"
  done
  [ ! -r /sys/fs/cgroup/cpu.stat ] || while read -r key value; do [ "$key" != usage_usec ] || cpu=$value; done </sys/fs/cgroup/cpu.stat
  [ ! -r /sys/fs/cgroup/cpuacct/cpuacct.usage ] || { read -r cpu </sys/fs/cgroup/cpuacct/cpuacct.usage; cpu=$((cpu / 1000)); }
}

# What is larger than any output may be is listed in place of being packed; the archive itself gets only so many blocks.
pack() {
  if [ -h .mainstem ] || [ ! -d .mainstem ]; then rm -f .mainstem; mkdir .mainstem; fi
  rm -rf .mainstem/left-out
  find . -type f -size "+$file_blocks" >"$room/left-out" && mv "$room/left-out" .mainstem/left-out
  find . -type f -size "+$file_blocks" -exec rm -f {} \;
  cd / && (ulimit -f "$archive_blocks"; exec tar -cf "$room/out.tar" -C "$WORKING_DIR" .)
}

# One of the largest files, within a factor of two: not every image can sort them.
near_largest() {
  blocks=$file_blocks
  while cd "$WORKING_DIR" && [ "$blocks" -gt 0 ]; do
    blocks=$((blocks / 2))
    find . -type f ! -path "./.mainstem/*" -size "+$blocks" >"$room/largest" 2>/dev/null
    read -r largest <"$room/largest" && break
  done
}

mkdir -p "$WORKING_DIR" && cd "$WORKING_DIR" || fail directory "the folder $WORKING_DIR cannot be made"
if [ -n "${MAINSTEM_FETCH-}" ]; then
  case $MAINSTEM_FETCH in .*) ;; *) has curl || has wget || has_python ||
    fail fetch "the image has none of curl, wget and python3, so nothing can be fetched" ;; esac
  again get "$MAINSTEM_FETCH" "$room/in.tar" || fail fetch "the files of the task cannot be fetched"
  tar -xf "$room/in.tar" || fail unpack "the files of the task cannot be unpacked (needs tar)"
  mv .mainstem/job .mainstem/run "$room/" && rmdir .mainstem && rm -f "$room/in.tar"
  . "$room/job"
  rm -f "$room/job"
  if [ -n "$push_url$report_url" ] && [ -z "$(tool "$report_url")" ]; then
    say "the image has none of curl, GNU wget and python3, so nothing can be handed in"
    finish 125
  fi
else
  printf '%s\n' "$MAINSTEM_RUN" >"$room/run"
fi
unset MAINSTEM_FETCH MAINSTEM_RUN MAINSTEM_END

told= child=
trap 'told=1; kill -TERM "$child" 2>/dev/null' TERM INT
sh "$room/run" &
child=$!
[ -z "$told" ] || kill -TERM "$child"
wait "$child" 2>/dev/null # or the shell writes how it ended
code=$?
while [ -n "$told" ] && kill -0 "$child" 2>/dev/null; do told=; wait "$child" 2>/dev/null; code=$?; done
trap '' TERM INT

measure
files=none largest=
if [ -n "$push_url" ]; then
  files=kept
  cd "$WORKING_DIR" && pack 2>"$room/problem"
  case $? in
  0) again put "$room/out.tar" "$push_url" "$push_headers" || files=lost ;;
  153) files=large ;;
  *) cat "$room/problem" >&2; files=lost ;;
  esac
  case $files in
  large) say "the working directory is too large to be handed in"; near_largest ;;
  lost) say "the files of the task cannot be handed in" ;;
  esac
fi
report "exit=$code" "files=$files" "oom=$oom" "peak=$peak" "cpu=$cpu" "largest=${largest#./}"
finish "$code"
