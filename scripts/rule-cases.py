"""Runs cases of Suricata's public verification suite through `nfv replay`: see rule-cases.sh, which calls it.

    case --> chain file with one `ids` --> nfv replay --> OUT/eve.json --> checks

What the case says of Suricata goes to the NF as it is: its suricata.yaml, and each `--set` over it."""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import yaml

# Checks hold for this version or not; bounds of whole cases are not looked at.
VERSION = (8, 0, 99)

# Kinds of records that the IDS writes.
KINDS = {"alert", "drop", "flow", "http", "dns", "tls", "ssh", "anomaly", "stats", "packet"}

# Applications with files in them that it does not know, by the records of their own.
MAIL_AND_FILES = {"smtp", "ftp", "ftp_data", "nfs", "smb"}

# What a rule may be made of; a rule that asks for more and is skipped says nothing about the IDS.
PROTOCOLS = "ip ipv4 ip4 ipv6 ip6 tcp udp icmp icmpv4 icmpv6 tcp-pkt tcp-stream pkthdr http http1 dns tls ssl ssh"
KEYWORDS = """
msg sid gid rev classtype priority reference metadata target
content nocase offset depth distance within startswith endswith rawbytes fast_pattern
pcre isdataat byte_test byte_jump byte_extract byte_math bsize dsize urilen base64_decode base64_data
flow flowbits flowint xbits hostbits threshold detection_filter
flags tcp.flags seq tcp.seq ack tcp.ack window tcp.window ttl ipv4.ttl tos ipv4.tos id ipv4.id ipopts ipv4.ipopts fragbits
fragoffset ip_proto ipv4.proto sameip itype icode icmp_id icmp_seq tcp.mss stream_size noalert tag
ipv4.hdr ipv6.hdr tcp.hdr udp.hdr icmpv4.hdr icmpv6.hdr
http.uri http.uri.raw http.method http.host http.host.raw http.user_agent http.header http.header.raw http.header_names
http.cookie http.request_line http.request_body http.stat_code http.stat_msg http.response_line http.response_body
file.data file_data http.content_type http.server http.location http.protocol
uricontent http_uri http_raw_uri http_method http_host http_raw_host http_user_agent http_header http_raw_header
http_cookie http_request_line http_client_body http_stat_code http_stat_msg http_response_line http_server_body
http_protocol http_content_type http_header_names
dns.query dns_query dns.opcode tls.sni tls_sni tls.cert_subject tls_cert_subject tls.version ja3.hash ja3_hash
ssh.proto ssh_proto ssh.software ssh_software
to_lowercase strip_whitespace compress_whitespace dotprefix url_decode to_md5 to_sha1 to_sha256 pcrexform xor
pkt_data
""".split()

# Built into Suricata for its own tests: without them it could not be told to fail where it does not.
SIMULATIONS = {"QA_SIMULATION", "DEBUG"}
# Of its protocols, its libraries and its ways to capture.
UNKNOWN_FEATURES = {"LUA", "HAVE_LUA", "MAGIC", "HAVE_MAGIC", "GEOIP", "HAVE_GEOIP", "AF_PACKET", "NFQ", "HAVE_NFQUEUE"}


def main():
    words = argparse.ArgumentParser(prog="rule-cases.sh", description="Which cases of Suricata's suite pass.")
    words.add_argument("dir", type=pathlib.Path)
    words.add_argument("--json", type=pathlib.Path)
    words.add_argument("--markdown", type=pathlib.Path)
    words.add_argument("--only", default="")
    words.add_argument("--keep", type=pathlib.Path)
    words.add_argument("--at-least", type=float, default=0.0)
    words.add_argument("--verbose", action="store_true")
    args = words.parse_args()
    folders = sorted(f.parent for f in args.dir.glob("**/test.yaml") if args.only in f.parent.name)
    if not folders:
        sys.exit(f"rule-cases: no folder below {args.dir} has a test.yaml")
    with tempfile.TemporaryDirectory(prefix="rule-cases-") as scratch:
        base = args.keep or pathlib.Path(scratch)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            results = list(pool.map(lambda f: run_case(f, base / f.name), folders))
    for result in results:
        print(line_of(result))
        if args.verbose:
            for check in result["checks"]:
                if check["result"] != "holds":
                    print(f"    {check['result']}: {check['what']}: {check['why']}")
    counts = {kind: sum(r["result"] == kind for r in results) for kind in ("passed", "failed", "not applicable")}
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['not applicable']} not applicable")
    if args.json:
        args.json.write_text(json.dumps({**{k.replace(" ", "_"): n for k, n in counts.items()}, "cases": results}, indent=1) + "\n")
    if args.markdown:
        update_page(args.markdown, results, counts)
    applicable = counts["passed"] + counts["failed"]
    if 100 * counts["passed"] < args.at_least * applicable:
        sys.exit(1)


def line_of(result):
    if result["result"] == "passed":
        return f"passed          {result['case']}" + (f" ({result['reason']})" if result["reason"] else "")
    return f"{result['result']:<15} {result['case']}: {result['reason']}"


# ---- a case

def run_case(folder, out):
    """What becomes of a case: its result, why, and each of its checks."""
    name = folder.name
    done = lambda result, reason, checks=(): {"case": name, "result": result, "reason": reason, "checks": list(checks)}
    try:
        test = yaml.safe_load((folder / "test.yaml").read_text(errors="replace")) or {}
        case = Case(folder, test)
    except (Unsuited, yaml.YAMLError, ValueError) as why:
        return done("failed", f"its test.yaml cannot be read: {why}")
    if case.unsuited:
        return done("not applicable", case.unsuited)
    out.mkdir(parents=True, exist_ok=True)
    chain = out / "chain.yaml"
    chain.write_text(json.dumps(case.chain(), indent=1))
    checked = nfv("check", chain, cwd=folder)
    if checked.returncode != 0:
        return done("failed", f"nfv check: {first_line(checked.stderr or checked.stdout)}")
    left_out = rules_left_out(checked.stdout + checked.stderr, folder)
    ran = nfv("replay", chain, "--in", f"lan={case.capture}", "--out", out, cwd=folder)
    if ran.returncode != 0:
        why = "does not end" if ran.returncode == TIMED_OUT else first_line(ran.stderr)
        return done("failed", f"nfv replay: {why}")
    try:
        records = read_records(out / "eve.json")
    except ValueError as why:
        return done("failed", str(why))
    left_out |= rules_of_other_files(records, case)
    checks = [check(c, records, case, out, left_out) for c in case.checks]
    failed = [c for c in checks if c["result"] == "fails"]
    held = [c for c in checks if c["result"] == "holds"]
    aside = [c for c in checks if c["result"] == "not applicable"]
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        return done("failed", f"{failed[0]['what']}: {failed[0]['why']}{more}", checks)
    if not held:
        return done("not applicable", aside[0]["why"] if aside else "it has no check", checks)
    return done("passed", f"{len(aside)} of {len(checks)} checks are not applicable" if aside else "", checks)


class Unsuited(Exception):
    """The case is not what such cases are."""


class Case:
    """A case, taken apart."""

    def __init__(self, folder, test):
        self.folder = folder.resolve()
        self.checks = [c for c in test.get("checks") or [] if isinstance(c, dict)]
        captures = sorted(f for ext in ("pcap", "pcapng", "cap") for f in self.folder.glob(f"*.{ext}"))
        if not captures:
            raise Unsuited("there is no capture")
        self.capture = captures[0]
        self.rules = sorted(self.folder.glob("*.rules"))
        self.yaml = next(iter(sorted(self.folder.glob("suricata.yaml"))), None)
        # As the suite does it: by the case's name or by an option.
        self.inline = "ips" in folder.name
        self.ignores_checksums = False
        self.sets = {}
        self.unsuited = feature_missing(test.get("requires") or {})
        self.read_args(test.get("args") or [])

    def read_args(self, args):
        text = " ".join(map(str, args)) if isinstance(args, list) else str(args)
        words = shlex.split(text.replace("${TEST_DIR}", str(self.folder)).replace("$TEST_DIR", str(self.folder)))
        while words:
            word = words.pop(0)
            name, _, value = word.partition("=")
            if word == "-k" and words:
                self.ignores_checksums = words.pop(0) == "none"
            elif word == "--simulate-ips":
                self.inline = True
            elif word == "--set" and words:
                key, _, value = words.pop(0).partition("=")
                self.sets[key] = value
            elif name == "--set":
                key, _, value = word.removeprefix("--set=").partition("=")
                self.sets[key] = value
            elif name.startswith("--simulate-") and not self.unsuited:
                self.unsuited = f"feature {name.removeprefix('--')}: Suricata is told to fail"
            elif word in ("-s", "-S", "-l", "-c") and words:
                words.pop(0)
        for key in self.sets:
            protocol = re.match(r"app-layer\.protocols\.([a-z0-9-]+)\.", key)
            if protocol and protocol[1] not in ("http", "dns", "tls", "ssh") and not self.unsuited:
                self.unsuited = f"protocol {protocol[1]}"

    def chain(self):
        ids = {
            "type": "ids",
            "rules": [str(f) for f in self.rules],
            "mode": "inline" if self.inline else "passive",
            "checksums": "ignore" if self.ignores_checksums else "check",
            # As Suricata does unless it is told to: packets of flows past their depth are looked at one by one.
            "bypass": "off",
            "log": {"file": "eve.json"},
        }
        if self.yaml:
            ids["suricata-yaml"] = str(self.yaml)
        if self.sets:
            ids["suricata-set"] = self.sets
        if (self.folder / "classification.config").exists():
            ids["classification"] = str(self.folder / "classification.config")
        if (self.folder / "threshold.config").exists() and "threshold-file" not in self.sets:
            ids["threshold-file"] = str(self.folder / "threshold.config")
        return {
            "ports": {"lan": "net_null0,no-rx=1", "wan": "net_null1,no-rx=1"},
            "functions": {"seen": ids},
            "chains": {"all": {"from": "lan", "through": ["seen"], "to": "wan"}},
        }


def feature_missing(requires):
    for feature in requires.get("features") or []:
        if feature in SIMULATIONS:
            return f"feature {feature}: Suricata is told to fail"
        if feature in UNKNOWN_FEATURES:
            return f"feature {feature}"
    return None


# ---- the program

TIMED_OUT = -1


def nfv(*words, cwd):
    command = [os.environ.get("NFV", "nfv"), *map(str, words)]
    try:
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, errors="replace", timeout=120)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, TIMED_OUT, "", "")


def first_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "no word"


def read_records(path):
    if not path.exists():
        raise ValueError(f"there is no {path.name}")
    records = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as why:
            raise ValueError(f"{path.name}:{number} is no JSON: {why}") from None
    return records


# ---- rules that the IDS left out

def rules_left_out(text, folder):
    """By number: the keyword, protocol or direction of a rule that was left out and that no rule of this IDS may have. A
    rule that was left out for anything else counts as if it were there."""
    out = {}
    rules = {}
    for file in folder.glob("*.rules"):
        for number, rule in rules_of(file.read_text(errors="replace")):
            rules[(file.name, number)] = rule
    for line in text.splitlines():
        found = re.search(r"(?:skipped|broken) (\S+?):(\d+):\d+: (.*?)(?: \(sid (\d+)\))?$", line)
        if not found:
            continue
        file, number, _, sid = found.groups()
        at_or_before = [key for key in rules if key[0] == pathlib.Path(file).name and key[1] <= int(number)]
        rule = rules[max(at_or_before, key=lambda key: key[1])] if at_or_before else ""
        why = beyond(rule)
        own = re.search(r"\bsid\s*:\s*(\d+)", rule)
        sid = sid or (own[1] if own else None)
        if why and sid:
            out[int(sid)] = why
    return out


def rules_of_other_files(records, case):
    """By number: rules about files where all applications that carry some are ones that the IDS does not know."""
    spoken = {record.get("app_proto") for record in records if record.get("event_type") == "flow"}
    spoken |= {(c.get("filter") or {}).get("match", {}).get("event_type") for c in case.checks} & MAIL_AND_FILES
    others = sorted(spoken - {None, "dns", "tls", "ssh", "failed"})
    if not others or "http" in others:
        return {}
    out = {}
    for file in case.folder.glob("*.rules"):
        for _, rule in rules_of(file.read_text(errors="replace")):
            sid = re.search(r"\bsid\s*:\s*(\d+)", rule)
            if sid and re.search(r"\bfile[._]data\b", rule):
                out[int(sid[1])] = f"protocol {others[0]}"
    return out


def rules_of(text):
    """The rules of a file with the lines where they begin; a backslash at a line's end joins the next one."""
    rules, begun = [], None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if begun is None and (not line or line.startswith("#")):
            continue
        start, sofar = begun or (number, "")
        if line.endswith("\\"):
            begun = (start, sofar + line[:-1] + " ")
        else:
            rules.append((start, sofar + line))
            begun = None
    return rules


def beyond(rule):
    """The first protocol or keyword of a rule that the IDS is not made for."""
    head, _, options = rule.partition("(")
    words = head.split()
    if len(words) > 1 and words[1].lower() not in PROTOCOLS.split():
        return f"protocol {words[1]}"
    if "=>" in words:
        return "direction =>"
    # Options end at semicolons; those in quotes and behind a backslash are theirs.
    for option in re.findall(r'(?:[^;"\\]|\\.|"(?:[^"\\]|\\.)*")+', options):
        keyword = option.partition(":")[0].strip()
        if keyword and keyword != ")" and keyword not in KEYWORDS:
            return f"keyword {keyword}"
    return None


# ---- checks

def check(check, records, case, out, left_out):
    kind, body = next(((k, v) for k, v in check.items() if isinstance(v, dict)), (None, None))
    requires = (body or {}).get("requires") or check.get("requires") or {}
    said = lambda result, what, why="": {"result": result, "what": what, "why": why}
    if not in_version(requires):
        return said("not applicable", describe(kind, body), "another version of Suricata")
    if kind == "filter":
        return check_filter(body, records, left_out, said)
    if kind == "shell":
        return check_shell(body, case, out, said)
    if kind == "stats":
        return check_stats(body, records, said)
    return said("not applicable", describe(kind, body), f"a check of kind {kind}")


def check_filter(body, records, left_out, said):
    match = body.get("match") or {}
    wanted = body.get("count")
    what = f"{wanted} records with {json.dumps(match, default=str)}"
    if body.get("filename") not in (None, "eve.json"):
        return said("not applicable", what, f"a log {body['filename']}")
    kind = match.get("event_type")
    if kind is not None and kind not in KINDS:
        return said("not applicable", what, f"records of kind {kind}")
    sid = find(match, "alert.signature_id") if "alert" in match else match.get("alert.signature_id")
    if sid in left_out:
        return said("not applicable", what, left_out[sid])
    if kind == "alert" and sid is None and left_out and wanted != 0:
        return said("not applicable", what, next(iter(left_out.values())))
    found = sum(matches(match, record) for record in records)
    if (wanted is None and found) or found == wanted:
        return said("holds", what)
    return said("fails", what, f"{found} found")


def check_shell(body, case, out, said):
    command, wanted = str(body.get("args", "")), str(body.get("expect", "")).strip()
    what = f"`{command}` prints {wanted}"
    other = [f for f in re.findall(r"[\w.-]+\.(?:log|json|data|pcap)\b", command) if not (out / f).exists() and f != "input.pcap"]
    if other:
        return said("not applicable", what, f"a log {other[0]}")
    environment = {**os.environ, "TEST_DIR": str(case.folder), "OUTPUT_DIR": str(out)}
    ran = subprocess.run(["/bin/sh", "-c", command], cwd=out, env=environment, capture_output=True, text=True, timeout=60)
    printed = ran.stdout.strip()
    return said("holds", what) if printed == wanted else said("fails", what, f"it prints {printed or ran.stderr.strip()}")


def check_stats(body, records, said):
    what = f"stats {json.dumps(body)}"
    last = next((r.get("stats", {}) for r in reversed(records) if r.get("event_type") == "stats"), {})
    for key, wanted in body.items():
        if key == "requires":
            continue
        root = key.split(".")[0]
        if find(last, key) is None and root in ("decoder", "defrag", "flow", "app_layer", "tcp", "detect", "ips"):
            return said("not applicable", what, f"a counter {key}")
        if find(last, key) != wanted:
            return said("fails", what, f"{key} is {find(last, key)}")
    return said("holds", what)


def describe(kind, body):
    return f"{kind} {json.dumps(body, default=str)}"


def in_version(requires):
    def version(text):
        parts = [int(n) for n in re.findall(r"\d+", str(text))[:3]]
        return tuple(parts + [0] * (3 - len(parts)))

    if "min-version" in requires and VERSION < version(requires["min-version"]):
        return False
    if "lt-version" in requires and VERSION >= version(requires["lt-version"]):
        return False
    if "gt-version" in requires:
        # 8 is not beyond 8.
        bound = version(requires["gt-version"])
        if VERSION[: len(re.findall(r"\d+", str(requires["gt-version"])))] <= bound[: len(re.findall(r"\d+", str(requires["gt-version"])))]:
            return False
    if "version" in requires and version(requires["version"])[0] != VERSION[0]:
        return False
    return True


ABSENT = object()


def matches(match, record):
    for key, wanted in match.items():
        if key in ("has-key", "not-has-key"):
            keys = wanted if isinstance(wanted, list) else [wanted]
            if any((find(record, k, ABSENT) is ABSENT) == (key == "has-key") for k in keys):
                return False
            continue
        word, _, test = key.partition("__")
        value = find(record, word, ABSENT)
        if value is ABSENT or not TESTS.get(test, same)(value, wanted):
            return False
    return True


def same(value, wanted):
    """As JSON values: 1 is not true, and not "1"."""
    if isinstance(value, bool) != isinstance(wanted, bool):
        return False
    if isinstance(value, dict) and isinstance(wanted, dict):
        return value.keys() == wanted.keys() and all(same(v, wanted[k]) for k, v in value.items())
    if isinstance(value, list) and isinstance(wanted, list):
        return len(value) == len(wanted) and all(map(same, value, wanted))
    return value == wanted


TESTS = {
    "contains": lambda value, wanted: wanted in value,
    "find": lambda value, wanted: wanted in value,
    "startswith": lambda value, wanted: str(value).startswith(str(wanted)),
    "endswith": lambda value, wanted: str(value).endswith(str(wanted)),
}


def find(value, path, default=None):
    """`a.b` goes into objects, `a.0` and `a[0]` into lists."""
    for word in re.sub(r"\[(\d+)\]", r".\1", path).split("."):
        if isinstance(value, dict) and word in value:
            value = value[word]
        elif isinstance(value, list) and word.isdigit() and int(word) < len(value):
            value = value[int(word)]
        else:
            return default
    return value


# ---- the page

def update_page(path, results, counts):
    """Lists what fails and what is not applicable. The causes of failures are written by hand: they stay."""
    old = path.read_text() if path.exists() else ""
    causes = dict(re.findall(r"^\| `([^`]+)` \| [^|]* \| ([^|]*) \|$", old, re.M))
    failed = [r for r in results if r["result"] == "failed"]
    unsuited = [r for r in results if r["result"] == "not applicable"]
    applicable = counts["passed"] + counts["failed"]
    share = f"{100 * counts['passed'] / applicable:.0f} %" if applicable else "none"
    clean = lambda text: text.replace("|", "\\|").replace("\n", " ")
    short = lambda text: clean(text) if len(text) <= 160 else clean(text[:157]) + "..."
    lines = [
        "# What passes of Suricata's verification suite",
        "",
        "Made by `scripts/rule-cases.sh CASES --markdown docs/conformance.md`; the causes are written by hand and stay.",
        "A case is not applicable only for a keyword or a protocol that the IDS does not know, or for kinds of records that",
        "it does not write (docs/nf/ids.md lists them).",
        "",
        f"{counts['passed']} of {applicable} applicable cases pass ({share}); {counts['not applicable']} are not applicable.",
        "",
        "## What fails, and why",
        "",
        "| case | what is not so | cause |",
        "|---|---|---|",
        *(f"| `{r['case']}` | {short(r['reason'])} | {causes.get(r['case'], 'not known yet').strip()} |" for r in failed),
        "",
        "## What is not applicable",
        "",
        "| case | reason |",
        "|---|---|",
        *(f"| `{r['case']}` | {short(r['reason'])} |" for r in unsuited),
        "",
    ]
    path.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
