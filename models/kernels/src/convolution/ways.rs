//! cuDNN's functions for the results, for the gradient of images and for that of the kernel, which differ in names and types only.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_cudarc::cudnn::result::{self, CudnnResult};
use candle_cudarc::cudnn::sys;

use super::choice::{Choice, Math, Proposal};
use super::cudnn::{Handle, Told};
use super::{Convolution, Digits};

/// What was chosen for which sizes.
pub(super) type Chosen<A> = RefCell<HashMap<(Convolution, Digits), Choice<A>>>;

/// More proposals than cuDNN makes: each algorithm by each kind of arithmetic.
const MOST: usize = 32;

pub(super) trait OneWay {
    type Algorithm: Copy;
    /// Gives the same results every time.
    const FIXED: Self::Algorithm;

    fn chosen(handle: &Handle) -> &Chosen<Self::Algorithm>;

    /// The best first.
    fn proposals(handle: &Handle, told: &Told) -> CudnnResult<Vec<Proposal<Self::Algorithm>>>;

    /// Bytes.
    fn workspace(handle: &Handle, told: &Told, algorithm: Self::Algorithm) -> CudnnResult<usize>;

    /// Computes from factors, in the order of the names, to the result, with a workspace: where these begin.
    ///
    /// # Safety
    /// They are on the handle's device, of the sizes told, and live until its stream is there.
    #[allow(unsafe_code)]
    unsafe fn run(handle: &Handle, told: &Told, choice: Choice<Self::Algorithm>, pointers: [u64; 4])
    -> CudnnResult<()>;
}

macro_rules! one_way {
    ($way:ident: $first:ident, $second:ident => $made:ident;
     $algorithm:ident::$fixed:ident, $proposal:ident, $proposals:ident, $workspace:ident, $run:ident) => {
        pub(super) struct $way;

        impl OneWay for $way {
            type Algorithm = sys::$algorithm;
            const FIXED: sys::$algorithm = sys::$algorithm::$fixed;

            fn chosen(handle: &Handle) -> &Chosen<sys::$algorithm> {
                &handle.$made
            }

            fn proposals(handle: &Handle, told: &Told) -> CudnnResult<Vec<Proposal<sys::$algorithm>>> {
                let nothing = sys::$proposal {
                    algo: Self::FIXED,
                    status: sys::cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED,
                    time: 0.0,
                    memory: 0,
                    determinism: sys::cudnnDeterminism_t::CUDNN_NON_DETERMINISTIC,
                    mathType: sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
                    reserved: [0; 3],
                };
                let (mut proposals, mut count) = ([nothing; MOST], 0);
                // SAFETY: handle and descriptors live, and there is room for as many proposals.
                #[allow(unsafe_code)]
                unsafe {
                    result::$proposals(
                        handle.raw,
                        told.$first.raw,
                        told.$second.raw,
                        told.convolution.raw,
                        told.$made.raw,
                        MOST as i32,
                        &raw mut count,
                        proposals.as_mut_ptr(),
                    )
                }?;
                let proposals = proposals.iter().take(usize::try_from(count).unwrap_or(0));
                Ok(proposals
                    .map(|proposal| Proposal {
                        choice: Choice {
                            algorithm: proposal.algo,
                            math: proposal.mathType.into(),
                            workspace: proposal.memory,
                        },
                        works: proposal.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS,
                        deterministic: proposal.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC,
                    })
                    .collect())
            }

            fn workspace(handle: &Handle, told: &Told, algorithm: sys::$algorithm) -> CudnnResult<usize> {
                let (first, second, made) = (told.$first.raw, told.$second.raw, told.$made.raw);
                // SAFETY: handle and descriptors live.
                #[allow(unsafe_code)]
                unsafe {
                    result::$workspace(handle.raw, first, second, told.convolution.raw, made, algorithm)
                }
            }

            #[allow(unsafe_code)]
            unsafe fn run(
                handle: &Handle,
                told: &Told,
                choice: Choice<sys::$algorithm>,
                [first, second, made, workspace]: [u64; 4],
            ) -> CudnnResult<()> {
                let (one, zero) = (1f32, 0f32);
                // SAFETY: handle and descriptors live, and the caller vouches for the pointers.
                unsafe {
                    result::$run(
                        handle.raw,
                        (&raw const one).cast(),
                        told.$first.raw,
                        first as *const _,
                        told.$second.raw,
                        second as *const _,
                        told.convolution.raw,
                        choice.algorithm,
                        workspace as *mut _,
                        choice.workspace,
                        (&raw const zero).cast(),
                        told.$made.raw,
                        made as *mut _,
                    )
                }
            }
        }
    };
}

one_way!(Results: images, kernel => results;
    cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, cudnnConvolutionFwdAlgoPerf_t,
    get_convolution_forward_algorithm, get_convolution_forward_workspace_size, convolution_forward);
one_way!(Images: kernel, results => images;
    cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, cudnnConvolutionBwdDataAlgoPerf_t,
    get_convolution_backward_data_algorithm, get_convolution_backward_data_workspace_size, convolution_backward_data);
one_way!(Kernel: images, results => kernel;
    cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, cudnnConvolutionBwdFilterAlgoPerf_t,
    get_convolution_backward_filter_algorithm, get_convolution_backward_filter_workspace_size, convolution_backward_filter);

impl From<sys::cudnnMathType_t> for Math {
    fn from(math: sys::cudnnMathType_t) -> Self {
        match math {
            sys::cudnnMathType_t::CUDNN_DEFAULT_MATH => Self::Default,
            sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH => Self::TensorCores,
            sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION => Self::Rounded,
            sys::cudnnMathType_t::CUDNN_FMA_MATH => Self::Fma,
        }
    }
}

impl From<Math> for sys::cudnnMathType_t {
    fn from(math: Math) -> Self {
        match math {
            Math::Default => Self::CUDNN_DEFAULT_MATH,
            Math::TensorCores => Self::CUDNN_TENSOR_OP_MATH,
            Math::Rounded => Self::CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION,
            Math::Fma => Self::CUDNN_FMA_MATH,
        }
    }
}
