//! How much a Dockerfile may ask of memory and stack. People's files stay far below.

/// Bytes of a Dockerfile.
pub const FILE: u64 = 16 << 20;
/// Bytes of an ignore file.
pub const IGNORE_FILE: u64 = 16 << 20;
/// Instructions of a Dockerfile.
pub const INSTRUCTIONS: usize = 65_536;
/// Words of one instruction.
pub const WORDS: usize = 65_536;
/// Here-documents of one instruction.
pub const DOCUMENTS: usize = 1000;
/// Ports of one EXPOSE: three protocols.
pub const PORTS: usize = 3 * 65_535;
/// Bytes of one `--mount`.
pub const MOUNT: usize = 65_536;
/// Bytes of one expanded word; a program takes no argument or variable longer than 128 KiB (execve(2)).
pub const WORD: usize = 1 << 20;
/// Bytes of one expanded here-document.
pub const CONTENT: usize = 32 << 20;
/// Bytes of all that is expanded for one stage.
pub const STAGE: usize = 256 << 20;
/// Stages of a Dockerfile: each keeps its variables while the build goes on.
pub const STAGES: usize = 1000;
/// Bytes of all variables of a stage; the kernel gives a program 2 MiB for them and its arguments (execve(2)).
pub const ENVIRONMENT: usize = 1 << 20;
/// `${A:-${B:-…}}` inside of one another.
pub const DEPTH: usize = 64;
/// Bytes of a pattern times bytes of what it is matched against, in `${V#PATTERN}`.
pub const MATCHING: usize = 1 << 28;
