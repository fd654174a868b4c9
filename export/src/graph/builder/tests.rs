//! What a builder accepts and refuses.

use super::*;

fn builder() -> Builder {
    let bias = Data::floats(&[2], &[1.0, 2.0]).unwrap();
    Builder::new("test", "batch", BTreeMap::from([("a.bias".to_owned(), bias)]))
}

#[test]
fn names_follow_the_modules_and_are_used_once() {
    let builder = builder();
    let x = builder.input("x", DType::F32, Shape::batched(&[2]));
    let a = builder.root().part("a");
    let names: Vec<_> = (0..3).map(|_| a.sqrt(&x).name().to_owned()).collect();
    assert_eq!(names, ["a.Sqrt", "a.Sqrt_1", "a.Sqrt_2"]);
    assert_eq!(a.part("b").sqrt(&x).name(), "a.b.Sqrt");
    let [first, second] = a.split(&x).unwrap();
    assert_eq!((first.name(), second.name(), first.shape()), ("a.Split", "a.Split_1", &Shape::batched(&[1])));
}

#[test]
fn equal_constants_are_stored_once() {
    let builder = builder();
    let g = builder.root();
    assert_eq!(g.scalar(0.5), g.part("a").scalar(0.5));
    assert_ne!(g.scalar(0.5), g.scalar(0.25));
    // A list of one number is no number.
    assert_ne!(g.filled(1, 0.5).shape(), g.scalar(0.5).shape());
    assert_eq!(builder.state.borrow().initializers.len(), 3);
}

#[test]
fn parameters_must_be_taken_once_and_whole() {
    let builder = builder();
    let a = builder.root().part("a");
    let problem = |found: Result<Value>| found.unwrap_err().to_string();
    let wrong = problem(a.parameter("weight", &[2], Layout::Same));
    assert_eq!(wrong, "graph: a.weight: this weight is missing (expected shape [2])");
    let x = builder.input("x", DType::F32, Shape::batched(&[2]));
    let y = a.sqrt(&x);
    let unused = builder.finish(&[("y", &y)]).unwrap_err().to_string();
    assert!(unused.starts_with("graph: a.bias: this weight belongs to no part of the network"), "{unused}");
}

#[test]
fn an_input_cannot_be_the_output() {
    let builder = Builder::new("test", "batch", BTreeMap::new());
    let x = builder.input("x", DType::F32, Shape::batched(&[2]));
    assert!(builder.finish(&[("y", &x)]).unwrap_err().to_string().contains("no node makes it"));
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let builder = builder();
    let g = builder.root();
    let x = builder.input("x", DType::F32, Shape::batched(&[4, 6]));
    let class = builder.input("class", DType::I64, Shape::batched(&[]));
    let wrong = [
        g.add(&x, &g.filled(5, 0.0)),
        g.add(&x, &class),
        g.matmul(&x, &x),
        g.reshape(&x, &[4, 5]),
        g.transpose(&x, &[0, 1, 1]),
        g.concat(&x, &x, 0),
        g.split::<4>(&x).map(|[first, ..]| first),
        g.skip(&x, 1, 4),
        g.gather(&x, &class),
        g.sum(&x, 0, true),
        g.mean(&g.scalar(1.0)),
    ];
    for result in wrong {
        result.unwrap_err();
    }
    assert_eq!(
        g.add(&x, &class).unwrap_err().to_string(),
        "graph: Add: F32 [batch, 4, 6] and I64 [batch] do not go together"
    );
    assert_eq!(g.concat(&x, &x, 1).unwrap().shape(), &Shape::batched(&[8, 6]));
    assert_eq!(g.skip(&x, 1, 3).unwrap().shape(), &Shape::batched(&[1, 6]));
    assert_eq!(g.sum(&x, 1, false).unwrap().shape(), &Shape::batched(&[6]));
}
