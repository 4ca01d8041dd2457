#!/bin/sh
# Makes what the compose file's nodes need once: secrets of the store and the trial's database, then a join token for each node.
# Run it twice: before anything is started (secrets), and again when the control planes run (join tokens). See docs/guides/deploy.md.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
# The files are readable by the image's user; this folder, by you alone.
chmod 0700 secrets

make_secret() { # name, command…
  name=$1; shift
  [ -s "secrets/$name" ] || { "$@" > "secrets/$name"; chmod 0444 "secrets/$name"; echo "made secrets/$name"; }
}

make_secret store-password openssl rand -hex 24
make_secret store-key openssl rand -base64 32
make_secret orders-password openssl rand -hex 24

if [ "${1-}" != tokens ]; then
  for node in gateway-1 gateway-2 gateway-3 agent-1 agent-2 recorder; do
    [ -e "secrets/join-$node" ] || : > "secrets/join-$node"
  done
  echo "Next: docker compose up -d --wait postgres nats control-plane-1 control-plane-2 && ./join.sh tokens && docker compose up -d --wait"
  exit 0
fi

join() { # node, role, options…
  node=$1 role=$2; shift 2
  docker compose exec -T control-plane-1 sluice nodes join-token create --ready-file /run/sluice/ready.json \
    --role "$role" --name "$node" "$@" > "secrets/join-$node.new"
  # Written in place: compose mounts the file itself.
  chmod 0644 "secrets/join-$node"
  cat "secrets/join-$node.new" > "secrets/join-$node"
  rm "secrets/join-$node.new"
}

for n in 1 2 3; do
  join "gateway-$n" gateway --host localhost --host 127.0.0.1 --host "gateway-$n"
done
for n in 1 2; do join "agent-$n" agent; done
join recorder recorder --host recorder
echo "The tokens are good for an hour and for one start each."
