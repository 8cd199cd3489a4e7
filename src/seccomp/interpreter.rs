//! Runs a program of classic BPF the way the kernel does (Documentation/networking/filter.rst), for tests.
//! Instructions are `(code, jt, jf, k)`, so that programs of other makers run here too.

/// `struct seccomp_data` of linux/seccomp.h, without the instruction pointer.
pub struct Data {
    pub number: u32,
    pub architecture: u32,
    pub arguments: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.architecture,
            16..=63 if offset.is_multiple_of(4) => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                (argument >> (8 * (offset % 8))) as u32
            }
            _ => panic!("load at offset {offset}"),
        }
    }
}

/// The value that the program returns. Panics where the kernel would have refused the program.
pub fn run(program: &[(u16, u8, u8, u32)], data: &Data) -> u32 {
    let mut accumulator = 0;
    let mut memory = [0; 16];
    let mut at = 0;
    loop {
        let (code, jt, jf, k) = program[at];
        at += 1;
        let branch = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = data.word(k),
            0x54 => accumulator &= k,
            0x02 => memory[k as usize] = accumulator,
            0x60 => accumulator = memory[k as usize],
            0x05 => at += k as usize,
            0x15 => at += branch(accumulator == k),
            0x25 => at += branch(accumulator > k),
            0x35 => at += branch(accumulator >= k),
            0x06 => return k,
            _ => panic!("instruction {code:#x}"),
        }
    }
}
