//! The `witgate` program: hands its arguments to `cli` and exits with its code.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    witgate::cli::main()
}
