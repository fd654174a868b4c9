//! Files that PyTorch 2.15 wrote, both ways (`_use_new_zipfile_serialization`), and the same files broken.

use super::*;

const ZIPPED: &[u8] = include_bytes!("fixtures/zipped.pth");
const PICKLED_FILE: &[u8] = include_bytes!("fixtures/pickled.pth");
const NESTED: &[u8] = include_bytes!("fixtures/nested.pth");

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

#[test]
fn both_kinds_of_files_hold_the_same_tensors() {
    for file in [ZIPPED, PICKLED_FILE] {
        let found = tensors(file, &Device::Cpu).unwrap();
        assert_eq!(found.len(), 6);
        // arange(24).reshape(2, 3, 4).permute(2, 0, 1).
        let weight = &found["a.weight"];
        assert_eq!(weight.dims(), [4, 2, 3]);
        assert_eq!(numbers(weight)[..8], [0.0, 4.0, 8.0, 12.0, 16.0, 20.0, 1.0, 5.0]);
        // A part of the next one's storage.
        assert_eq!(numbers(&found["a.bias"]), [3.0, 4.0, 5.0]);
        assert_eq!(numbers(&found["b.shared"]).len(), 10);
        assert_eq!((found["half"].dtype(), numbers(&found["half"])), (DType::F16, vec![1.5, -2.0]));
        assert_eq!((found["double"].dtype(), numbers(&found["double"])), (DType::F64, vec![0.25]));
        assert_eq!(found["bn.num_batches_tracked"].to_scalar::<i64>().unwrap(), 7);
    }
}

#[test]
fn a_state_dict_among_other_things_is_found() {
    let found = tensors(NESTED, &Device::Cpu).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(numbers(&found["w"]), [1.0, 1.0]);
}

#[test]
fn cut_files_are_errors() {
    for file in [ZIPPED, PICKLED_FILE] {
        for length in 0..file.len() {
            assert!(tensors(&file[..length], &Device::Cpu).is_err(), "{length}");
        }
    }
}

#[test]
fn changed_bytes_are_no_panic() {
    for file in [ZIPPED, PICKLED_FILE, NESTED] {
        for at in 0..file.len() {
            for value in [0, 1, 0x7f, 0xff, b'(', b'.', 0x85, file[at] ^ 1] {
                let mut broken = file.to_vec();
                broken[at] = value;
                // Numbers may change unseen; what matters is that nothing is taken on trust.
                drop(tensors(&broken, &Device::Cpu));
            }
        }
    }
}

#[test]
fn tensors_share_numbers_within_reason() {
    // {"a": tensor, "b": the same} of 4 numbers.
    let call =
        "(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQK\0K\x04\u{85}K\x01\u{85}tR";
    let dict = format!("}}(X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n({call}q\x01X\x01\0\0\0bh\x01u.");
    let dict: Vec<u8> = dict.chars().map(|c| c as u8).collect();
    let (objects, top) = pickle::read(&mut &dict[..]).unwrap();
    let storages = BTreeMap::from([("0".to_owned(), &[0; 16][..])]);
    let read = |most| state_dict((&objects, top), &storages, most, &Device::Cpu);
    assert_eq!(read(32).unwrap().len(), 2);
    assert!(read(31).unwrap_err().contains("far more than the file"));
}

#[test]
fn no_file_asks_for_more_memory_than_it_has() {
    assert_eq!(gathered(&[0; 16], 4, 0, &[usize::MAX, 2], &[0, 0]), None);
    assert_eq!(gathered(&[0; 16], 4, 0, &[5], &[0]), None);
    assert_eq!(gathered(&[0; 16], 4, 1, &[2, 2], &[2, 1]), None);
    assert_eq!(gathered(&[0; 16], 4, usize::MAX, &[1], &[1]), None);
    assert_eq!(gathered(&[0; 16], 4, 0, &[2, 2], &[1, 2]), Some(vec![0; 16]));
}
