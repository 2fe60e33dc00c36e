# `just` lists the recipes. Each is a short command that works without just, too.

default:
    @just --list

# what a change must pass before tests: format, lints, rooms
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    .ci/rooms

# everything, real hosts in network namespaces included
test:
    cargo test --workspace

# what peers send, mutated for a minute each over a kept corpus; `just fuzz --keep` keeps what is new
fuzz *ARGS:
    cargo run -p starling-fuzz -- run all {{ARGS}}

# real hosts only: agents and plain programs in network namespaces, links cut, processes killed
hosts *ARGS:
    cargo test -p starling-chaos {{ARGS}}

# what a mesh must reach on five hosts, each figure beside its bound (root, a machine that does nothing else)
reach:
    cargo run --release -p starling-chaos -- reach

# a million requests over connections that are cut, half-closed and reset at random: none gets another's answer, nothing leaks
churn *ARGS:
    cargo run --release -p starling-chaos -- churn {{ARGS}}

# how soon a service that speaks first is heard over a long path, with --rtt MS, --connections N, --json
first-byte *ARGS:
    cargo run --release -p starling-chaos -- first-byte {{ARGS}}

# a hundred real nodes beside as many agents of serf, in one run (root; STARLING_PEERS names the measuring tools)
serf *ARGS:
    cargo run --release -p starling-chaos -- serf {{ARGS}}

# a mesh of hundreds on virtual time: a scenario of chaos/scenarios, with --seed N, --nodes N, --runs N, --json
sim SCENARIO *ARGS:
    cargo run --release -p starling-chaos -- sim {{SCENARIO}} {{ARGS}}

# other people's test suites, directly and through a pair of nodes; `just compat --list` names them
compat *ARGS:
    compat/run {{ARGS}}

# the cost of the hop beside HAProxy, in one run (root; STARLING_PEERS names the measuring tools)
bench-hop *ARGS:
    bench/hop.sh {{ARGS}}

# a whole mesh on loopback, told step by step
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# the documentation of all rooms
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# all that .ci/run does
ci:
    .ci/run
