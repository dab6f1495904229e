//! How many workers there are, from the CPU and the memory that the service may use.

use std::fmt;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use crate::config;

/// What a limit of a control group has to leave for everything but hashing, in KiB: the code, connections, requests.
const RESERVE_KIB: u64 = 64 * 1024;

/// The size of the hash gate, and where each number comes from. Its `Display` is one sentence for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizing {
    workers: usize,
    /// Set by `password.workers`.
    workers_set: bool,
    cpus: usize,
    memory_kib: u32,
    foreign_kib: u32,
    /// What `password.foreign_max_mib` asks for.
    foreign_max_kib: u32,
    limit: Option<MemoryLimit>,
}

/// The tightest memory limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    kib: u64,
    origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// A file of a control group.
    Cgroup(PathBuf),
    /// The memory of the machine.
    Machine,
}

/// The gate doesn't fit into memory.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizingError {
    /// Not even one worker.
    #[error(
        "{memory_kib} KiB don't fit: of {limit}, {usable_kib} KiB are for hashing; raise the limit or lower it"
    )]
    NoWorkerFits {
        /// The memory of one worker, in KiB.
        memory_kib: u32,
        /// The limit it has to fit into.
        limit: MemoryLimit,
        /// What of the limit is for hashing.
        usable_kib: u64,
    },
    /// `password.workers` is set, and the process would be killed while it starts.
    #[error(
        "{workers} workers of {memory_kib} KiB don't fit into {limit}; raise the limit or lower either of them"
    )]
    TooManyWorkers {
        /// The workers that are set.
        workers: usize,
        /// The memory of one worker, in KiB.
        memory_kib: u32,
        /// The limit they have to fit into.
        limit: MemoryLimit,
    },
}

impl Sizing {
    /// Asks the operating system. The number of CPUs is the one that affinity and the quotas of the control groups (v1 and
    /// v2, up to the root) allow, as the standard library finds it.
    pub fn detect(settings: &config::Password) -> Result<Self, SizingError> {
        let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::choose(settings, cpus, MemoryLimit::find(Path::new("/")))
    }

    /// The memory for hashes from elsewhere is set aside first, because a hash that can't be verified locks a user out,
    /// while a worker less only makes logins slower. One worker comes before that, because without one nobody logs in.
    pub(super) fn choose(
        settings: &config::Password,
        cpus: usize,
        limit: Option<MemoryLimit>,
    ) -> Result<Self, SizingError> {
        let memory_kib = settings.memory_kib;
        let worker_kib = u64::from(memory_kib.max(1));
        let foreign_max_kib = settings.foreign_max_mib.saturating_mul(1024);
        let usable_kib = limit.as_ref().map_or(u64::MAX, MemoryLimit::usable_kib);
        let workers = match (settings.workers, &limit) {
            (Some(_), Some(limit)) if worker_kib > limit.kib => {
                return Err(SizingError::NoWorkerFits {
                    memory_kib,
                    limit: limit.clone(),
                    usable_kib,
                });
            }
            (Some(workers), Some(limit))
                if worker_kib.saturating_mul(workers as u64) > limit.kib =>
            {
                return Err(SizingError::TooManyWorkers {
                    workers,
                    memory_kib,
                    limit: limit.clone(),
                });
            }
            (Some(workers), _) => workers.max(1),
            (None, Some(limit)) if usable_kib < worker_kib => {
                return Err(SizingError::NoWorkerFits {
                    memory_kib,
                    limit: limit.clone(),
                    usable_kib,
                });
            }
            (None, _) => {
                let fit = usable_kib.saturating_sub(u64::from(foreign_max_kib)) / worker_kib;
                usize::try_from(fit)
                    .unwrap_or(usize::MAX)
                    .clamp(1, cpus.max(1))
            }
        };
        let rest_kib = usable_kib.saturating_sub(worker_kib.saturating_mul(workers as u64));
        let foreign_kib = u64::from(foreign_max_kib).min(rest_kib);
        // What fits into a worker's own memory needs no other.
        let foreign_kib = if foreign_kib > worker_kib {
            u32::try_from(foreign_kib).unwrap_or(u32::MAX)
        } else {
            0
        };
        Ok(Self {
            workers,
            workers_set: settings.workers.is_some(),
            cpus,
            memory_kib,
            foreign_kib,
            foreign_max_kib,
            limit,
        })
    }

    /// Threads that hash, at least one.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// What one hash from elsewhere may need beyond a worker's own memory, in KiB. Less than
    /// `password.foreign_max_mib` where memory is short; 0 where a worker's own memory is more anyway.
    pub fn foreign_kib(&self) -> u32 {
        self.foreign_kib
    }

    /// Whether memory is too short for hashes from elsewhere of `password.foreign_max_mib`.
    pub fn is_short_for_foreign(&self) -> bool {
        self.foreign_max_kib > self.memory_kib && self.foreign_kib < self.foreign_max_kib
    }

    /// All that hashing ever takes, in KiB.
    pub fn memory_kib(&self) -> u64 {
        u64::from(self.memory_kib).saturating_mul(self.workers as u64) + u64::from(self.foreign_kib)
    }
}

impl fmt::Display for Sizing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            workers,
            memory_kib,
            cpus,
            ..
        } = self;
        let why = if self.workers_set { "set" } else { "automatic" };
        write!(
            formatter,
            "{workers} workers ({why}; {cpus} CPUs allowed) of {memory_kib} KiB"
        )?;
        write!(
            formatter,
            " + {} KiB for hashes from elsewhere = {} KiB",
            self.foreign_kib,
            self.memory_kib()
        )?;
        match &self.limit {
            Some(limit) => write!(formatter, " of {limit}"),
            None => formatter.write_str(", memory limit unknown"),
        }
    }
}

impl MemoryLimit {
    /// The limit that leaves the least for hashing: of the control groups that the process is in, up to the root, or the
    /// machine. `root` is `/`, or a folder that stands in for it.
    fn find(root: &Path) -> Option<Self> {
        let read = |path: &str| std::fs::read_to_string(root.join(path));
        let mut limits = cgroup_folders(&read)
            .map_or_else(|_| Vec::new(), |folders| cgroup_limits(root, &folders));
        limits.extend(
            read("proc/meminfo")
                .ok()
                .and_then(|meminfo| machine_limit(&meminfo)),
        );
        limits.into_iter().min_by_key(Self::usable_kib)
    }

    /// What hashing may take of it, in KiB. A control group belongs to the service alone; a machine also has to run what
    /// else is on it, the database for example.
    fn usable_kib(&self) -> u64 {
        match self.origin {
            Origin::Cgroup(_) => self.kib.saturating_sub(RESERVE_KIB),
            Origin::Machine => self.kib / 2,
        }
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} KiB (", self.kib)?;
        match &self.origin {
            Origin::Cgroup(path) => write!(formatter, "{})", path.display()),
            Origin::Machine => formatter.write_str("the machine's memory)"),
        }
    }
}

/// A folder of a control group, and the mount point above it, both without the leading slash.
#[derive(Debug, PartialEq, Eq)]
struct CgroupFolder {
    mount: PathBuf,
    folder: PathBuf,
}

/// The folders of the control groups that may limit memory: that of the unified hierarchy (v2), that of the controller
/// `memory` (v1), or both (hybrid).
fn cgroup_folders(read: &dyn Fn(&str) -> io::Result<String>) -> io::Result<Vec<CgroupFolder>> {
    let groups = read("proc/self/cgroup")?;
    let mounts = read("proc/self/mountinfo")?;
    let mut folders = Vec::new();
    for mount in mounts.lines().filter_map(Mount::parse) {
        for line in groups.lines() {
            // hierarchy:controllers:path
            let mut fields = line.splitn(3, ':');
            let (Some(hierarchy), Some(controllers), Some(group)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let belongs = if mount.unified {
                hierarchy == "0"
            } else {
                controllers
                    .split(',')
                    .any(|controller| controller == "memory")
            };
            if belongs {
                // Inside a container the mount may begin at the group itself, and then the path repeats the mount's root.
                // A group that isn't below the root is out of sight; the mount point is the nearest that can be seen.
                let below = Path::new(group)
                    .strip_prefix(mount.root)
                    .unwrap_or(Path::new(""));
                let mount = PathBuf::from(mount.point.trim_start_matches('/'));
                let visible = !below.components().any(|part| part.as_os_str() == "..");
                let folder = if visible {
                    mount.join(below)
                } else {
                    mount.clone()
                };
                folders.push(CgroupFolder { mount, folder });
            }
        }
    }
    Ok(folders)
}

/// A mounted hierarchy that may hold memory limits.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    unified: bool,
}

impl<'a> Mount<'a> {
    /// A line of `/proc/self/mountinfo` (see proc(5)): id, parent, device, root, mount point, options, any number of
    /// optional fields, `-`, type, source, options of the file system.
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        let unified = kind == "cgroup2";
        let memory = kind == "cgroup" && options.split(',').any(|option| option == "memory");
        (unified || memory).then_some(Self {
            root,
            point,
            unified,
        })
    }
}

/// The limits of the folders and of all above them: each of them counts. Files that aren't there, or say `max`, limit
/// nothing.
fn cgroup_limits(root: &Path, folders: &[CgroupFolder]) -> Vec<MemoryLimit> {
    let mut limits = Vec::new();
    for CgroupFolder { mount, folder } in folders {
        for folder in folder
            .ancestors()
            .take_while(|folder| folder.starts_with(mount))
        {
            // v2: memory.high doesn't kill, but slows the whole group down to a crawl. v1 has one file.
            for file in ["memory.max", "memory.high", "memory.limit_in_bytes"] {
                let path = folder.join(file);
                let bytes = std::fs::read_to_string(root.join(&path))
                    .ok()
                    .and_then(|text| text.trim().parse().ok());
                // "No limit" in v1 is a number near 2^63; the machine's memory is always less.
                if let Some(bytes) = bytes.map(|bytes: u64| bytes / 1024) {
                    limits.push(MemoryLimit {
                        kib: bytes,
                        origin: Origin::Cgroup(Path::new("/").join(path)),
                    });
                }
            }
        }
    }
    limits
}

/// `MemTotal` of `/proc/meminfo`, whose kB are KiB.
fn machine_limit(meminfo: &str) -> Option<MemoryLimit> {
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(MemoryLimit {
        kib,
        origin: Origin::Machine,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tempfile::TempDir;

    use super::*;

    const MIB: u64 = 1024;
    const V2_MOUNT: &str =
        "30 23 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1_MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                             35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

    /// A folder that stands in for `/`.
    fn tree(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn find(files: &[(&str, &str)]) -> Option<(u64, String)> {
        let limit = MemoryLimit::find(tree(files).path())?;
        let origin = match limit.origin {
            Origin::Cgroup(path) => path.display().to_string(),
            Origin::Machine => "machine".to_owned(),
        };
        Some((limit.kib, origin))
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "compared with, and passed as, an option"
    )]
    fn found(mib: u64, origin: &str) -> Option<(u64, String)> {
        Some((mib * MIB, origin.to_owned()))
    }

    #[test]
    fn unified_hierarchy() {
        assert_eq!(
            find(&[
                ("proc/self/cgroup", "0::/app\n"),
                ("proc/self/mountinfo", V2_MOUNT),
                ("sys/fs/cgroup/app/memory.max", "536870912\n"),
                (
                    "proc/meminfo",
                    "MemTotal:       16384000 kB\nMemFree: 1 kB\n"
                ),
            ]),
            found(512, "/sys/fs/cgroup/app/memory.max")
        );
    }

    #[test]
    fn a_limit_above_counts_too() {
        let files = [
            ("proc/self/cgroup", "0::/pods/pod1/app\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/pods/memory.max", "2147483648\n"),
            ("sys/fs/cgroup/pods/pod1/memory.max", "268435456\n"),
            ("sys/fs/cgroup/pods/pod1/app/memory.max", "max\n"),
            ("sys/fs/cgroup/other/memory.max", "1048576\n"),
        ];
        assert_eq!(
            find(&files),
            found(256, "/sys/fs/cgroup/pods/pod1/memory.max")
        );
    }

    #[test]
    fn the_mark_where_the_kernel_slows_down_counts_too() {
        let files = [
            ("proc/self/cgroup", "0::/app\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/app/memory.max", "536870912\n"),
            ("sys/fs/cgroup/app/memory.high", "402653184\n"),
        ];
        assert_eq!(find(&files), found(384, "/sys/fs/cgroup/app/memory.high"));
    }

    #[test]
    fn a_container_that_sees_its_own_group_as_the_root() {
        let files = [
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/memory.max", "134217728\n"),
        ];
        assert_eq!(find(&files), found(128, "/sys/fs/cgroup/memory.max"));
    }

    #[test]
    fn first_hierarchy() {
        let files = [
            (
                "proc/self/cgroup",
                "9:cpu,cpuacct:/app\n4:memory:/docker/abc\n",
            ),
            ("proc/self/mountinfo", V1_MOUNTS),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            (
                "sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "1073741824\n",
            ),
            (
                "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("proc/meminfo", "MemTotal:       16384000 kB\n"),
        ];
        assert_eq!(
            find(&files),
            found(1024, "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes")
        );
    }

    #[test]
    fn first_hierarchy_with_the_group_as_the_root_of_the_mount() {
        let mounts = V1_MOUNTS.replace("0:32 / ", "0:32 /docker/abc ");
        let files = [
            ("proc/self/cgroup", "4:memory:/docker/abc/child\n"),
            ("proc/self/mountinfo", mounts.as_str()),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"),
            (
                "sys/fs/cgroup/memory/child/memory.limit_in_bytes",
                "134217728\n",
            ),
            (
                "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes",
                "1048576\n",
            ),
        ];
        assert_eq!(
            find(&files),
            found(128, "/sys/fs/cgroup/memory/child/memory.limit_in_bytes")
        );
    }

    #[rstest]
    #[case::above_the_mount("0::/../sibling")]
    #[case::not_below_the_mount("0::/elsewhere")]
    fn a_group_out_of_sight_is_judged_by_the_mount_point(#[case] group: &str) {
        let mounts = V2_MOUNT.replace("0:27 / ", "0:27 /docker/abc ");
        let files = [
            ("proc/self/cgroup", group),
            ("proc/self/mountinfo", mounts.as_str()),
            ("sys/fs/cgroup/memory.max", "268435456\n"),
            ("sys/fs/sibling/memory.max", "1048576\n"),
            ("sys/fs/cgroup/sibling/memory.max", "1048576\n"),
        ];
        assert_eq!(find(&files), found(256, "/sys/fs/cgroup/memory.max"));
    }

    #[test]
    fn hybrid() {
        let mounts =
            format!("{V1_MOUNTS}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        let mut files = vec![
            ("proc/self/cgroup", "4:memory:/app\n1:cpu:/\n0::/unit\n"),
            ("proc/self/mountinfo", mounts.as_str()),
            (
                "sys/fs/cgroup/memory/app/memory.limit_in_bytes",
                "536870912\n",
            ),
        ];
        assert_eq!(
            find(&files),
            found(512, "/sys/fs/cgroup/memory/app/memory.limit_in_bytes")
        );
        files.push(("sys/fs/cgroup/unified/unit/memory.max", "268435456\n"));
        assert_eq!(
            find(&files),
            found(256, "/sys/fs/cgroup/unified/unit/memory.max")
        );
    }

    #[test]
    fn without_a_limit_the_machine_is_the_limit() {
        let files = [
            ("proc/self/cgroup", "0::/app\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/app/memory.max", "max\n"),
            ("proc/meminfo", "MemTotal:        1048576 kB\n"),
        ];
        assert_eq!(find(&files), found(1024, "machine"));
        // A limit of 600 MiB leaves 536 for hashing; half of the machine is less.
        let files = [
            &files[..2],
            &[("sys/fs/cgroup/app/memory.max", "629145600\n")],
            &files[3..],
        ]
        .concat();
        assert_eq!(find(&files), found(1024, "machine"));
    }

    #[test]
    fn nothing_to_be_found_is_no_limit() {
        assert_eq!(find(&[]), None);
        let nonsense = [
            ("proc/self/cgroup", "\n:\n0:\n::::\n0::\nmemory\n"),
            (
                "proc/self/mountinfo",
                "\n - \na b c - cgroup2\n1 2 3 / /x rw - cgroup2 none rw\n",
            ),
            ("x/memory.max", "many\n"),
            ("proc/meminfo", "MemTotal: many kB\nMemTotal 5\n"),
        ];
        assert_eq!(find(&nonsense), None);
    }

    fn settings(memory_kib: u32, workers: Option<usize>) -> config::Password {
        config::Password {
            memory_kib,
            workers,
            ..config::Config::default().password
        }
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "compared with, and passed as, an option"
    )]
    fn cgroup(mib: u64) -> Option<MemoryLimit> {
        Some(MemoryLimit {
            kib: mib * MIB,
            origin: Origin::Cgroup("/sys/fs/cgroup/memory.max".into()),
        })
    }

    /// Workers of 19 MiB, and what is left for hashes from elsewhere, in MiB.
    #[rstest]
    #[case::plenty(2, cgroup(4096), 2, 128)]
    #[case::no_limit_known(4, None, 4, 128)]
    #[case::the_container_of_the_checklist(2, cgroup(256), 2, 128)]
    #[case::many_cpus(64, cgroup(1024), 43, 128)]
    // 64 MiB of the limit are for everything else.
    #[case::one_worker_and_all_of_the_rest(2, cgroup(211), 1, 128)]
    #[case::short(2, cgroup(128), 1, 45)]
    #[case::just_one(2, cgroup(83), 1, 0)]
    #[case::no_cpu_known(0, cgroup(4096), 1, 128)]
    #[case::half_of_a_machine(
        8, Some(MemoryLimit { kib: 512 * MIB, origin: Origin::Machine }), 6, 128
    )]
    fn automatic(
        #[case] cpus: usize,
        #[case] limit: Option<MemoryLimit>,
        #[case] workers: usize,
        #[case] foreign_mib: u64,
    ) {
        let sizing = Sizing::choose(&settings(19_456, None), cpus, limit).unwrap();
        assert_eq!(
            (sizing.workers(), u64::from(sizing.foreign_kib())),
            (workers, foreign_mib * MIB)
        );
        assert_eq!(
            sizing.memory_kib(),
            workers as u64 * 19_456 + foreign_mib * MIB
        );
        assert_eq!(sizing.is_short_for_foreign(), foreign_mib < 128);
    }

    #[test]
    fn not_even_one_worker_names_the_setting_and_the_limit() {
        let error = Sizing::choose(&settings(19_456, None), 2, cgroup(82)).unwrap_err();
        assert!(matches!(error, SizingError::NoWorkerFits { .. }));
        let text = error.to_string();
        assert!(text.starts_with("19456 KiB don't fit: "), "{text}");
        assert!(
            text.contains("83968 KiB (/sys/fs/cgroup/memory.max)"),
            "{text}"
        );
        assert!(Sizing::choose(&settings(19_456, None), 2, cgroup(10)).is_err());
    }

    #[test]
    fn workers_that_are_set_are_taken_unless_they_can_never_fit() {
        let choose =
            |workers, mib| Sizing::choose(&settings(19_456, Some(workers)), 2, cgroup(mib));
        let more_than_cpus = choose(8, 1024).unwrap();
        assert_eq!(
            (more_than_cpus.workers(), more_than_cpus.foreign_kib()),
            (8, 128 * 1024)
        );
        // The reserve is an estimate; who sets the number knows better.
        let tight = choose(4, 100).unwrap();
        assert_eq!((tight.workers(), tight.foreign_kib()), (4, 0));
        let error = choose(6, 100).unwrap_err();
        assert!(
            error.to_string().starts_with("6 workers of 19456 KiB"),
            "{error}"
        );
        assert_eq!(choose(0, 1024).unwrap().workers(), 1);
    }

    #[test]
    fn own_memory_above_that_for_others_is_enough_for_both() {
        let sizing = Sizing::choose(&settings(256 * 1024, None), 2, cgroup(1024)).unwrap();
        assert_eq!((sizing.workers(), sizing.foreign_kib()), (2, 0));
        assert!(!sizing.is_short_for_foreign());
        assert_eq!(sizing.memory_kib(), 512 * MIB);
    }

    #[test]
    fn the_sentence_for_the_log() {
        let sizing = Sizing::choose(&settings(19_456, None), 2, cgroup(512)).unwrap();
        assert_eq!(
            sizing.to_string(),
            "2 workers (automatic; 2 CPUs allowed) of 19456 KiB + 131072 KiB for hashes from elsewhere = 169984 KiB \
             of 524288 KiB (/sys/fs/cgroup/memory.max)"
        );
        let sizing = Sizing::choose(&settings(8, Some(1)), 2, None).unwrap();
        assert_eq!(
            sizing.to_string(),
            "1 workers (set; 2 CPUs allowed) of 8 KiB + 131072 KiB for hashes from elsewhere = 131080 KiB, \
             memory limit unknown"
        );
    }

    #[test]
    fn this_machine_has_room() {
        let sizing = Sizing::detect(&settings(8, None)).unwrap();
        assert!(sizing.workers() >= 1);
    }
}
