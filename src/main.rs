//! The binary: hands the arguments to `cli` and gives back its exit code.

fn main() -> std::process::ExitCode {
    wattgate::cli::run(std::env::args_os())
}
