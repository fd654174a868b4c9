//! Compiles the kernels to PTX, with the feature `cuda`.

fn main() {
    println!("cargo:rerun-if-changed=src/cu");
    #[cfg(feature = "cuda")]
    if let Err(error) = compile() {
        println!("cargo:error=CUDA kernels: {error}");
    }
}

#[cfg(feature = "cuda")]
fn compile() -> cudaforge::Result<()> {
    cudaforge::KernelBuilder::new()
        .source_dir("src/cu")
        .watch(["src/cu/common.cuh"])
        .arg("-std=c++17")
        .arg("-O3")
        .build_ptx()
        .map(drop)
}
