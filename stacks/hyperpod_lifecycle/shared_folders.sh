#!/bin/bash
# Wait for the shared file system, and make the folders of Temper on it: members of the group temper
# may write in them, and what they write belongs to the group.
set -euo pipefail

waited_s=0
until mountpoint -q "$TEMPER_SHARED"; do
    if [ "$waited_s" -ge "${TEMPER_MOUNT_TIMEOUT_S:-300}" ]; then
        echo "temper: $TEMPER_SHARED is not mounted after $waited_s s; is the file system in the" \
            "same network, and does its security group allow ports 988 and 1018-1023?"
        exit 1
    fi
    sleep 5
    waited_s=$((waited_s + 5))
done

# The number of the group must be the same on every node, because files carry the number.
if entry=$(getent group temper); then
    IFS=: read -r _ _ gid _ <<<"$entry"
    [ "$gid" = "$TEMPER_GID" ] ||
        { echo "temper: the group temper has the number $gid here, and should have $TEMPER_GID"; exit 1; }
else
    groupadd --gid "$TEMPER_GID" temper
fi

root=$TEMPER_SHARED/temper
for folder in "$root" "$root"/{cache,code,data,environments,images,runs,uploads}; do
    mkdir -p "$folder"
    chown root:temper "$folder"
    chmod 2775 "$folder"
done
mkdir -p "$TEMPER_SHARED/home"
chmod 755 "$TEMPER_SHARED/home"
