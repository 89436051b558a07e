# Trees of Debian, for those scripts that source this: debootstrap, and what the programs in a tree need.
#
# DEBIAN_MIRROR says where Debian comes from; the default is where this machine's own packages come from.

# debian_tree CODENAME TREE PACKAGE,...: a small Debian with these packages below TREE, which must be empty.
debian_tree() {
    if ! command -v debootstrap >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
    fi
    local mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)}
    if ! debootstrap --variant=minbase --include="$3" "$1" "$2" "$mirror" >"$2.log" 2>&1; then
        tail -n 20 "$2.log" >&2
        return 1
    fi
    rm -f "$2.log"
}

# prepare_chroot TREE: makes TREE fit for `chroot`. It gets this checkout as /src, and what this machine needs to reach
# the network, the kernel's file systems, and a /run of its own. The mounts are the caller's namespace's.
prepare_chroot() {
    local settings
    for settings in /etc/pip.conf /etc/xdg/pip /etc/ssl/certs/ca-certificates.crt /etc/apt/apt.conf.d; do
        if [ -e "$settings" ]; then
            mkdir -p "$1$(dirname "$settings")"
            cp -rT --no-preserve=ownership "$settings" "$1$settings"
        fi
    done
    ln -sf ../proc/self/mounts "$1/etc/mtab" # as an installed system has it
    mount --bind "$1" "$1"                   # as a root is: unshare(1) wants it
    mount --rbind /dev "$1/dev"
    mount --bind /sys "$1/sys"
    mount -t proc proc "$1/proc"
    mount -t tmpfs tmpfs "$1/run"
    mkdir "$1/src"
    git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$1/src"
}
