//! Both views of guest memory and the dirty log, over real memfds.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use proptest::prelude::*;

use super::guest::sealed_memfd;
use super::*;

const LAYOUT: [RegionLayout; 2] = [
    RegionLayout {
        guest_address: 0,
        size: 0x3000,
    },
    RegionLayout {
        guest_address: 0x1_0000_0000,
        size: 0x2000,
    },
];

fn memory(options: MemoryOptions) -> GuestMemory {
    GuestMemory::new(&LAYOUT, options).unwrap()
}

fn table_of(memory: &GuestMemory) -> RegionTable {
    let mut table = RegionTable::new();
    for (index, region) in memory.regions().iter().enumerate() {
        table.map(*region, memory.dup(index).unwrap()).unwrap();
    }
    table
}

fn desc(guest_address: u64, size: u64, user_address: u64, mmap_offset: u64) -> MemRegionDesc {
    MemRegionDesc {
        guest_address,
        size,
        user_address,
        mmap_offset,
    }
}

fn memfd(size: u64) -> OwnedFd {
    sealed_memfd(size).unwrap()
}

#[test]
fn both_sides_see_the_same_bytes_whatever_the_backing() {
    // Broken: simulated front-end and back-end talk past each other.
    for backing in [Backing::PerRegion, Backing::OneFile] {
        for first_offset in [0, 0x1000, 0x1_0000, 0x2_3000] {
            let memory = memory(MemoryOptions {
                backing,
                first_offset,
                ..MemoryOptions::default()
            });
            let offsets: Vec<u64> = memory.regions().iter().map(|region| region.mmap_offset).collect();
            let second = if backing == Backing::OneFile {
                first_offset + 0x3000
            } else {
                first_offset
            };
            assert_eq!(offsets, [first_offset, second]);
            let table = table_of(&memory);
            for (index, region) in memory.regions().iter().enumerate() {
                let (first, last) = (region.guest_address, region.guest_address + region.size - 4);
                memory.write(first, b"head").unwrap();
                table.write(last, b"tail").unwrap();
                let mut seen = [0; 4];
                table.read(first, &mut seen).unwrap();
                assert_eq!(&seen, b"head");
                memory.read(last, &mut seen).unwrap();
                assert_eq!(&seen, b"tail");
                // The file itself is the witness: both mappings could be wrong alike.
                File::from(memory.dup(index).unwrap())
                    .read_exact_at(&mut seen, region.mmap_offset)
                    .unwrap();
                assert_eq!(&seen, b"head");
                table.store_u16(first + 8, 0x1234, Ordering::Release).unwrap();
                assert_eq!(memory.load_u16(first + 8, Ordering::Acquire), Ok(0x1234));
                assert_eq!(table.user_to_guest(memory.guest_to_user(last).unwrap()), Ok(last));
            }
        }
    }
}

#[test]
fn regions_come_and_go() {
    // Broken: a memory slot that was unplugged is still accessed, or one plugged in later is not found.
    for backing in [Backing::PerRegion, Backing::OneFile] {
        let user_addresses = UserAddresses::Synthetic(0x7f00_0000_0000);
        let mut memory = memory(MemoryOptions {
            backing,
            user_addresses,
            first_offset: 0,
            ..MemoryOptions::default()
        });
        let mut table = table_of(&memory);
        let index = memory
            .add_region(RegionLayout {
                guest_address: 0x10_0000,
                size: 0x1000,
            })
            .unwrap();
        let slot = memory.regions()[index];
        assert_eq!(slot.user_address, 0x7f00_0010_0000);
        table.map(slot, memory.dup(index).unwrap()).unwrap();
        memory.write(0x10_0ff0, b"slot").unwrap();
        let mut seen = [0; 4];
        table.read(0x10_0ff0, &mut seen).unwrap();
        assert_eq!(&seen, b"slot");

        let wrong = table.remove(slot.guest_address, slot.size, slot.user_address + 1);
        assert!(matches!(wrong, Err(MemoryError::NoSuchRegion { .. })));
        table.remove(slot.guest_address, slot.size, slot.user_address).unwrap();
        assert_eq!(memory.remove_region(index), Ok(slot));
        for access in [&memory as &dyn GuestAccess, &table] {
            assert!(matches!(
                access.read(0x10_0ff0, &mut seen),
                Err(MemoryError::Unmapped { .. })
            ));
        }
        assert_eq!(
            memory.remove_region(2),
            Err(MemoryError::NoSuchIndex { index: 2, count: 2 })
        );
        table.clear();
        assert_eq!(table.regions(), []);
    }
}

#[test]
fn each_bad_region_is_refused_for_its_own_reason() {
    // Broken: a back-end maps nonsense, and dies of SIGBUS later.
    let mut table = RegionTable::new();
    table.map(desc(0x1000, 0x2000, 0x9000, 0), memfd(0x2000)).unwrap();
    let mut refuse = |desc: MemRegionDesc, fd: OwnedFd| table.map(desc, fd).unwrap_err();

    let empty = refuse(desc(0x8000, 0, 0, 0), memfd(0x1000));
    assert_eq!(empty, MemoryError::EmptyRegion { guest_address: 0x8000 });
    for (bad, name) in [
        (desc(u64::MAX, 0x1000, 0, 0), "guest address"),
        (desc(0x8000, 0x1000, u64::MAX - 1, 0), "user address"),
        (desc(0x8000, 0x1000, 0, u64::MAX - 0xfff), "offset"),
    ] {
        assert!(matches!(refuse(bad, memfd(0x1000)), MemoryError::Overflow { what, .. } if what == name));
    }
    let short = refuse(desc(0x8000, 0x1000, 0x2_0000, 1), memfd(0x1000));
    assert_eq!(
        short,
        MemoryError::FileTooSmall {
            file_size: 0x1000,
            offset: 1,
            size: 0x1000
        }
    );
    let huge = refuse(desc(0x8000, u64::MAX / 2, 0x2_0000, 0), memfd(0x1000));
    assert!(matches!(huge, MemoryError::FileTooSmall { .. }));
    let guest = refuse(desc(0x2fff, 0x1000, 0x2_0000, 0), memfd(0x1000));
    assert_eq!(
        guest.to_string(),
        "region 0x2fff..0x3fff overlaps 0x1000..0x3000 in guest space"
    );
    let user = refuse(desc(0x3000, 0x1000, 0x8001, 0), memfd(0x1000));
    assert_eq!(
        user.to_string(),
        "region 0x8001..0x9001 overlaps 0x9000..0xb000 in user space"
    );
    let (pipe, _other_end) = nix::unistd::pipe().unwrap();
    assert!(matches!(
        refuse(desc(0x8000, 0x1000, 0x2_0000, 0), pipe),
        MemoryError::NotAFile { .. }
    ));
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(0x1000).unwrap();
    let read_only = refuse(
        desc(0x8000, 0x1000, 0x2_0000, 0),
        File::open(file.path()).unwrap().into(),
    );
    assert_eq!(
        read_only,
        MemoryError::System {
            call: "mmap",
            errno: Errno::EACCES
        }
    );
    assert_eq!(table.regions(), [desc(0x1000, 0x2000, 0x9000, 0)]);
}

#[test]
fn regions_that_touch_do_not_overlap_and_their_number_is_bounded() {
    // Broken: legal layouts are refused, or a peer makes the table grow without end.
    let mut table = RegionTable::new();
    let fd = memfd(0x1000);
    for index in 0..REGIONS_MAX as u64 {
        table
            .map(
                desc(index * 0x1000, 0x1000, 0x7000 + index * 0x1000, 0),
                fd.try_clone().unwrap(),
            )
            .unwrap();
    }
    let one_more = table.map(desc(0x1000_0000, 0x1000, 0x2000_0000, 0), fd);
    assert_eq!(one_more, Err(MemoryError::TooManyRegions { limit: REGIONS_MAX }));
    assert_eq!(table.guest_end(), 0x1000 * REGIONS_MAX as u64);
}

#[test]
fn a_refused_replacement_leaves_the_old_table() {
    // Broken: one bad SET_MEM_TABLE takes the memory away that rings still use.
    let mut table = RegionTable::new();
    table.map(desc(0, 0x1000, 0, 0), memfd(0x1000)).unwrap();
    let next = vec![
        (desc(0, 0x1000, 0, 0), memfd(0x1000)),
        (desc(0x800, 0x1000, 0x9000, 0), memfd(0x1000)),
    ];
    assert!(table.replace(next).is_err());
    assert_eq!(table.regions(), [desc(0, 0x1000, 0, 0)]);
    table
        .replace(vec![(desc(0x5000, 0x1000, 0, 0), memfd(0x1000))])
        .unwrap();
    assert_eq!(table.regions(), [desc(0x5000, 0x1000, 0, 0)]);
}

#[test]
fn files_are_sealed_and_close_on_exec_and_truncation_shows() {
    // Broken: a real back-end inherits memory fds, or its mapping can be cut short by us.
    let memory = memory(MemoryOptions::default());
    let fd = memory.fd(0).unwrap();
    let flags = FdFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFD).unwrap());
    assert!(flags.contains(FdFlag::FD_CLOEXEC));
    assert_eq!(
        File::from(memory.dup(0).unwrap())
            .set_len(0)
            .unwrap_err()
            .raw_os_error(),
        Some(Errno::EPERM as i32)
    );
    let mut table = table_of(&memory);
    assert_eq!(table.shrinkable(), []);

    let file = tempfile::tempfile().unwrap();
    file.set_len(0x1000).unwrap();
    let open = desc(0x10_0000, 0x1000, 0x10, 0);
    table.map(open, file.try_clone().unwrap().into()).unwrap();
    assert_eq!((table.shrinkable(), table.check_files()), (vec![open], Ok(())));
    file.set_len(0).unwrap();
    assert!(matches!(
        table.check_files(),
        Err(MemoryError::FileTooSmall { file_size: 0, .. })
    ));
}

#[test]
fn what_is_atomic_stays_in_one_region_and_aligned() {
    // Broken: an index torn between two mappings is taken for a value.
    let mut table = RegionTable::new();
    table.map(desc(0x1000, 0xfff, 0x1000, 0), memfd(0x1000)).unwrap();
    table.map(desc(0x1fff, 0x1001, 0x9000, 1), memfd(0x2000)).unwrap();
    let torn = table.load_u16(0x1ffe, Ordering::Acquire);
    let known = "0x1000..0x1fff, 0x1fff..0x3000".to_owned();
    assert_eq!(
        torn,
        Err(MemoryError::Straddles {
            address: 0x1ffe,
            length: 2,
            known: known.clone()
        })
    );
    assert_eq!(
        table.load_u16(0x1001, Ordering::Acquire),
        Err(MemoryError::Misaligned {
            address: 0x1001,
            align: 2
        })
    );
    assert_eq!(table.contiguous(0x1fff, 0x1001), Ok(()));
    let outside = table.contiguous(0x2000, 0x1001);
    assert_eq!(
        outside,
        Err(MemoryError::Unmapped {
            space: Space::Guest,
            address: 0x2000,
            length: 0x1001,
            known
        })
    );
    assert_eq!(table.read_u16(0x1ffe), Ok(0));
    let text = table.read_u32(0x4000).unwrap_err().to_string();
    assert_eq!(
        text,
        "no region covers guest 0x4000..0x4004; regions: 0x1000..0x1fff, 0x1fff..0x3000"
    );
}

proptest! {
    #[test]
    fn straddling_access_equals_flat_memory_and_failing_access_changes_nothing(
        cuts in (1..300u64, 1..300u64, 1..300u64), hole in 1..50u64,
        accesses in proptest::collection::vec((0..1100u64, 0..700usize, any::<u8>()), 1..40),
    ) {
        // Broken: a buffer across two regions is read or written in the wrong place.
        let sizes = [cuts.0, cuts.1, cuts.2];
        let mut table = RegionTable::new();
        let mut flat = Vec::new();
        let mut at = 0;
        for (index, size) in sizes.into_iter().enumerate() {
            // The last region stands behind a hole; offsets in the file are odd on purpose.
            let gap = if index == 2 { hole } else { 0 };
            flat.resize(flat.len() + gap as usize, None);
            at += gap;
            table.map(desc(at, size, 0x1_0000 * (index as u64 + 1), 7), memfd(0x1000)).unwrap();
            flat.resize(flat.len() + size as usize, Some(0u8));
            at += size;
        }
        for (start, length, byte) in accesses {
            let range = start as usize..start as usize + length;
            let held = range.is_empty() || flat.get(range.clone()).is_some_and(|cells| cells.iter().all(Option::is_some));
            let wrote = table.write(start, &vec![byte; length]);
            prop_assert_eq!(wrote.is_ok(), held);
            if held && length > 0 {
                flat[range.clone()].fill(Some(byte));
            }
            let mut back = vec![0xee; length];
            prop_assert_eq!(table.read(start, &mut back).is_ok(), held);
            if held && length > 0 {
                let expected: Vec<u8> = flat[range].iter().map(|cell| cell.unwrap()).collect();
                prop_assert_eq!(back, expected);
            }
        }
        for (at, cell) in flat.iter().enumerate() {
            let mut byte = [0];
            prop_assert_eq!(table.read(at as u64, &mut byte).ok().map(|()| byte[0]), *cell);
        }
    }
}

#[test]
fn dirty_log_marks_every_page_touched_and_nothing_past_its_end() {
    // Broken: migration loses pages, or a back-end scribbles behind the log.
    let (log, fd) = DirtyLog::allocate(64 * LOG_PAGE_BYTES + 1).unwrap();
    assert_eq!(log.size(), 16);
    let theirs = DirtyLog::map(fd, 0, 16).unwrap();
    theirs.mark(0xfff, 2).unwrap();
    theirs.mark(9 * LOG_PAGE_BYTES, 1).unwrap();
    theirs.mark(5 * LOG_PAGE_BYTES, 0).unwrap();
    assert!(log.is_marked(0x1000) && !log.is_marked(0x2000) && !log.is_marked(u64::MAX));
    assert_eq!(log.take(), [0, 1, 9]);
    assert_eq!(theirs.take(), [] as [u64; 0]);
    theirs.mark(128 * LOG_PAGE_BYTES - 1, 1).unwrap();
    let past = theirs.mark(128 * LOG_PAGE_BYTES - 1, 2);
    assert!(matches!(past, Err(MemoryError::PastLog { log_size: 16, .. })));
    assert!(theirs.mark(u64::MAX, 2).is_err() && theirs.mark(0, u64::MAX).is_err());
    assert_eq!(log.take(), [127]);
    assert_eq!(DirtyLog::map(memfd(8), 0, 0).unwrap_err(), MemoryError::EmptyLog);
    assert!(matches!(
        DirtyLog::map(memfd(8), 4, 8),
        Err(MemoryError::FileTooSmall { .. })
    ));
    // An odd offset in the file is legal.
    let odd = DirtyLog::map(memfd(16), 3, 8).unwrap();
    odd.mark(0, 1).unwrap();
    assert_eq!(odd.take(), [0]);
}

#[test]
fn logged_access_marks_writes_only_and_refuses_what_it_cannot_log() {
    // Broken: pages are written that the log says are clean.
    let memory = memory(MemoryOptions::default());
    let (log, _fd) = DirtyLog::allocate(0x3000).unwrap();
    let logged = LoggedAccess::new(&memory, &log);
    logged.read(0, &mut [0; 0x3000]).unwrap();
    assert_eq!(log.take(), [] as [u64; 0]);
    logged.write(0x1ffe, &[1; 4]).unwrap();
    logged.store_u16(0, 1, Ordering::Release).unwrap();
    assert_eq!(log.take(), [0, 1, 2]);
    assert!(matches!(
        logged.write(0x1_0000_0000, &[7]),
        Err(MemoryError::PastLog { .. })
    ));
    let mut byte = [0];
    memory.read(0x1_0000_0000, &mut byte).unwrap();
    assert_eq!(byte, [0]);
}
