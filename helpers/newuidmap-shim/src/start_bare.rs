//! The program without std and the C library: its entry, its relocation, system calls, memory, and the end of a
//! panic.
//!
//! A container waits for this program, and on x86-64 nearly all of its time would be the C library's start, which
//! asks the processor for its features with `cpuid` some fifty times: in a virtual machine each of them is an
//! exit to the host. None is needed here. It also means that nothing of the environment is looked at before
//! the program has given up its privileges (`GLIBC_TUNABLES`).

use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::arch::asm;
use core::ffi::{CStr, c_char};
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::sys::{self, Errno, Result, number};

/// What the C library's `_start` calls, in the place of the C library's own: `main`, the number of arguments, and
/// pointers to them.
///
/// # Safety
/// Called once, by `_start`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __libc_start_main(_: usize, count: i32, words: *const *const c_char) -> ! {
    let (base, dynamic): (usize, *const [usize; 2]);
    // SAFETY: the linker's names for the first byte of the program and for its dynamic section.
    unsafe {
        asm!("lea {}, [rip + __ehdr_start]", "lea {}, [rip + _DYNAMIC]", out(reg) base, out(reg) dynamic,
            options(pure, nomem, nostack, preserves_flags));
        relocate(base, dynamic);
        protect(base);
    }
    // SAFETY: the kernel put that many pointers to C strings there (execve(2)), which stay.
    let words = unsafe { core::slice::from_raw_parts(words, count as usize) };
    // SAFETY: as above.
    let words: Vec<&[u8]> = words.iter().map(|word| unsafe { CStr::from_ptr(*word) }.to_bytes()).collect();
    sys::exit_now(crate::serve(&words))
}

/// Its address is all that `_start` takes of it.
#[unsafe(no_mangle)]
extern "C" fn main() {}

/// syscall(2).
///
/// # Safety
/// The arguments are what the kernel expects of this call.
pub unsafe fn call(name: libc::c_long, [one, two, three, four, five, six]: [usize; 6]) -> Result<usize> {
    let returned: isize;
    // SAFETY: the calling convention of x86-64; the rest is the caller's.
    unsafe {
        asm!("syscall", inlateout("rax") name as isize => returned, in("rdi") one, in("rsi") two,
            in("rdx") three, in("r10") four, in("r8") five, in("r9") six, lateout("rcx") _, lateout("r11") _,
            options(nostack));
    }
    usize::try_from(returned).map_err(|_| Errno(-returned as i32))
}

// elf(5)
const DT_NULL: usize = 0;
const DT_RELA: usize = 7;
const DT_RELASZ: usize = 8;
const R_X86_64_RELATIVE: usize = 8;
/// The only size on x86-64 that is not a huge one.
const PAGE: usize = 4096;

/// A position-independent program without a loader adds its base to its own pointers. Where it meets any other
/// relocation it ends.
///
/// # Safety
/// Called before any pointer in static memory is used.
unsafe fn relocate(base: usize, dynamic: *const [usize; 2]) {
    let (mut table, mut size, mut at) = (0, 0, dynamic);
    // SAFETY: the section ends with DT_NULL, its entries lead to the table of relocations, and each of those to
    // a word of writable memory of this program: the linker made them.
    unsafe {
        while (*at)[0] != DT_NULL {
            match (*at)[0] {
                DT_RELA => table = base + (*at)[1],
                DT_RELASZ => size = (*at)[1],
                _ => {}
            }
            at = at.add(1);
        }
        for number in 0..size / size_of::<[usize; 3]>() {
            let [offset, kind, addend] = *(table as *const [usize; 3]).add(number);
            if kind != R_X86_64_RELATIVE {
                sys::exit_now(1);
            }
            ((base + offset) as *mut usize).write_volatile(base.wrapping_add(addend));
        }
    }
}

/// Nobody writes to the relocated pointers any more (PT_GNU_RELRO): what a loader would see to.
///
/// # Safety
/// `base` is where the program begins, and nothing is relocated afterwards.
unsafe fn protect(base: usize) {
    // SAFETY: the linker puts the file's header first, and it says where the program headers are in the memory
    // that the kernel has mapped with it.
    let headers = unsafe {
        let file = &*(base as *const libc::Elf64_Ehdr);
        let first = (base + file.e_phoff as usize) as *const libc::Elf64_Phdr;
        core::slice::from_raw_parts(first, usize::from(file.e_phnum))
    };
    for header in headers.iter().filter(|header| header.p_type == libc::PT_GNU_RELRO) {
        let from = (base + header.p_vaddr as usize) & !(PAGE - 1);
        let end = (base + header.p_vaddr as usize + header.p_memsz as usize) & !(PAGE - 1);
        // SAFETY: whole pages of this program, which the linker has kept for such pointers.
        let done = unsafe {
            call(libc::SYS_mprotect, [from, end.saturating_sub(from), number(libc::PROT_READ), 0, 0, 0])
        };
        if done.is_err() {
            sys::exit_now(1);
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::print_error("newuidmap-shim: internal error\n");
    sys::exit_now(1)
}

/// Memory that is never given back: the program takes little and ends soon.
struct Pages;

#[global_allocator]
static MEMORY: Pages = Pages;

/// The free rest of the last pages that were asked for; there is one thread.
static NEXT: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);
const AT_ONCE: usize = 64 << 10;

// SAFETY: each block is cut from fresh, zeroed pages and handed out once; without room the answer is null.
unsafe impl GlobalAlloc for Pages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let fit = |from: usize| from.checked_next_multiple_of(layout.align())?.checked_add(layout.size());
        let mut end = fit(NEXT.load(Ordering::Relaxed));
        if end.is_none_or(|end| end > END.load(Ordering::Relaxed)) {
            // Pages are aligned for everything that is asked for here.
            let wanted = layout.size().max(AT_ONCE);
            let (access, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: a new mapping that replaces none (mmap(2)).
            let pages =
                unsafe { call(libc::SYS_mmap, [0, wanted, number(access), number(flags), number(-1), 0]) };
            let Ok(pages) = pages else { return core::ptr::null_mut() };
            END.store(pages + wanted, Ordering::Relaxed);
            end = fit(pages);
        }
        let Some(end) = end.filter(|end| *end <= END.load(Ordering::Relaxed)) else {
            return core::ptr::null_mut();
        };
        NEXT.store(end, Ordering::Relaxed);
        (end - layout.size()) as *mut u8
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

// What the compiler calls for moving and comparing memory. The processor's own instructions, so that it cannot
// take the loop for one of these functions and call it from within.

/// # Safety
/// As memcpy(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller's. The ABI keeps the direction flag clear.
    unsafe {
        asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// As memmove(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= count {
        // SAFETY: going upwards, no byte is overwritten before it is read.
        return unsafe { memcpy(to, from, count) };
    }
    // SAFETY: the caller's; downwards for the same reason, and the direction flag is cleared again.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") count => _,
            inout("rdi") to.wrapping_add(count).wrapping_sub(1) => _,
            inout("rsi") from.wrapping_add(count).wrapping_sub(1) => _, options(nostack));
    }
    to
}

/// # Safety
/// As memset(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller's. The ABI keeps the direction flag clear.
    unsafe {
        asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") byte as u8,
            options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// As memcmp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
    for at in 0..count {
        // SAFETY: the caller's. Volatile, so that the loop stays one.
        let (a, b) = unsafe { (one.add(at).read_volatile(), other.add(at).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// # Safety
/// As bcmp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's.
    unsafe { memcmp(one, other, count) }
}

/// # Safety
/// As strlen(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller's. Volatile, so that the loop stays one.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}
