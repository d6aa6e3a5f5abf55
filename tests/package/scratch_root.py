"""A small system to install packages in: a directory with those of this machine's
packages that a package depends on, and the essential ones, for chroot.  dpkg's
database in it has them as installed.  Made of what is there: no network, no mounts.
"""

import os
import shutil
import stat
import subprocess

DPKG = "/var/lib/dpkg"
# what no maintainer script and no program needs
LEFT_OUT = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/zoneinfo/", "/usr/share/i18n/",
            "/usr/lib/modules/", "/usr/lib/firmware/", "/lib/modules/", "/lib/firmware/")
FIELDS = "${binary:Package}\t${Package}\t${Essential}\t${Provides}\t${Pre-Depends}, ${Depends}\t${db:Status-Status}\n"


def _names(relation):
    """Names of a dependency's alternatives, or of what is provided: no versions."""
    return [part.split("(")[0].split(":")[0].strip() for part in relation.split("|")]


class _Packages:
    """What is installed on this machine."""

    def __init__(self):
        said = subprocess.run(["dpkg-query", "-W", f"-f={FIELDS}"], text=True, capture_output=True, check=True).stdout
        self.full, self.needs, self.provider, self.essential = {}, {}, {}, []
        for line in said.splitlines():
            full, name, essential, provides, needs, status = line.split("\t")
            if status != "installed":
                continue
            self.full[name], self.needs[name] = full, [r for r in needs.split(", ") if r.strip()]
            for provided in filter(None, provides.split(", ")):
                self.provider.setdefault(_names(provided)[0], name)
            if essential == "yes":
                self.essential.append(name)

    def closure(self, relations):
        """Names of the essential packages, of those that satisfy the relations, and
        of all that these need."""
        found, waiting = set(), list(self.essential) + list(relations)
        while waiting:
            relation = waiting.pop()
            name = next((n for n in _names(relation) if n in self.needs), None) or \
                next((self.provider[n] for n in _names(relation) if n in self.provider), None)
            assert name, f"nothing installed here satisfies {relation}"
            if name not in found:
                found.add(name)
                waiting += self.needs[name]
        return sorted(found)

    def info(self, name):
        """The files of dpkg's database about the package."""
        return [entry.path for entry in os.scandir(f"{DPKG}/info")
                if entry.name.rpartition(".")[0] in (name, self.full[name])]


def _kept(path):
    return os.path.lexists(path) and not path.startswith(LEFT_OUT)


class ScratchRoot:
    """A system in the directory `dir`, which is made; wants root."""

    def __init__(self, directory, depends):
        """depends: relations as in a package's Depends, without its own name."""
        self.dir = directory
        packages = _Packages()
        self.packages = packages.closure(depends)
        info = [path for name in self.packages for path in packages.info(name)]
        self._directories()
        self._copy(line for path in info if path.endswith(".list")
                   for line in open(path, encoding="utf-8").read().split("\n") if _kept(line) and line != "/.")
        self._database(info)
        self._system()

    def path(self, name):
        return self.dir + name

    def _directories(self):
        for name in ("dev", "etc", "proc", "run", "tmp", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "root",
                     f"{DPKG[1:]}/info", f"{DPKG[1:]}/updates", f"{DPKG[1:]}/triggers", "var/log"):
            os.makedirs(f"{self.dir}/{name}", exist_ok=True)
        for name in ("bin", "sbin", "lib", "lib64", "lib32", "libx32"):
            if os.path.islink(f"/{name}"):
                os.symlink(os.readlink(f"/{name}"), f"{self.dir}/{name}")

    def _copy(self, names):
        listed = "".join(f".{name}\n" for name in sorted(set(names)) if not os.path.islink(self.dir + name))
        pack = subprocess.Popen(["tar", "-C", "/", "-cf", "-", "--no-recursion", "-T", "-"], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)
        unpack = subprocess.Popen(["tar", "-C", self.dir, "-xpf", "-", "--keep-directory-symlink"], stdin=pack.stdout)
        pack.stdout.close()
        pack.stdin.write(listed.encode())
        pack.stdin.close()
        assert (unpack.wait(), pack.wait()) == (0, 0)

    def _database(self, info):
        for path in info:
            shutil.copy2(path, self.dir + path)
        with open(f"{DPKG}/status", encoding="utf-8") as status:
            stanzas = status.read().split("\n\n")
        kept = [s for s in stanzas if s.split("\n", 1)[0].removeprefix("Package: ") in self.packages]
        with open(self.dir + f"{DPKG}/status", "w", encoding="utf-8") as status:
            status.write("\n\n".join(kept) + "\n\n")
        for name in ("available", "triggers/File", "triggers/Unincorp", "diversions", "statoverride"):
            open(f"{self.dir}{DPKG}/{name}", "w", encoding="ascii").close()

    def _system(self):
        for name in ("passwd", "group"):
            shutil.copy(f"/usr/share/base-passwd/{name}.master", f"{self.dir}/etc/{name}")
        os.chmod(f"{self.dir}/tmp", 0o1777)
        try:
            os.mknod(f"{self.dir}/dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            os.chmod(f"{self.dir}/dev/null", 0o666)
        except PermissionError:
            # a container without device nodes: a file serves as well
            open(f"{self.dir}/dev/null", "w", encoding="ascii").close()
        self.run("ldconfig")

    def run(self, *argv, user=None, check=True):
        """Runs a command in the system; returns what subprocess.run does."""
        done = subprocess.run(["chroot", *([f"--userspec={user}:{user}"] if user else []), self.dir, *argv],
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                                   "DEBIAN_FRONTEND": "noninteractive"},
                              stdin=subprocess.DEVNULL, text=True, capture_output=True, check=False, timeout=120)
        assert not check or done.returncode == 0, f"{argv}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def entries(self):
        """{path: "mode owner group"} of all there is but the packages' own databases;
        owners by the names that the system itself has for them."""
        users, groups = (self._ids(name) for name in ("passwd", "group"))
        found = {}
        for folder, folders, files in os.walk(self.dir):
            shown = folder.removeprefix(self.dir) or "/"
            if shown in (DPKG, "/var/lib/rpm", "/var/log", "/tmp", "/dev"):
                folders.clear()
                continue
            for name in folders + files:
                path = os.path.join(folder, name)
                s = os.lstat(path)
                found[path.removeprefix(self.dir)] = \
                    f"{s.st_mode & 0o7777:04o} {users.get(s.st_uid, s.st_uid)} {groups.get(s.st_gid, s.st_gid)}"
        return found

    def _ids(self, name):
        with open(f"{self.dir}/etc/{name}", encoding="utf-8") as lines:
            return {int(line.split(":")[2]): line.split(":")[0] for line in lines}
