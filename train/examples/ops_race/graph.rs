//! Operations on tensors, whose gradients come from backpropagation.

use std::rc::Rc;

use candle_core::{Result, Tensor, Var};
use drifting_models::ops::inner;
use serde_json::Value;

use crate::case::{Case, Contender, Pass, Tensors};
use crate::input::Input;

/// What makes the result of the inputs in their order.
pub(crate) type Run = Rc<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// An operation of tensors.
#[derive(Clone)]
pub(crate) struct Graph {
    pub(crate) op: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) shape: String,
    pub(crate) settings: Value,
    pub(crate) inputs: Vec<Input>,
    pub(crate) run: Run,
}

impl Graph {
    /// A case for each pass.
    pub(crate) fn in_passes(&self, passes: &[Pass]) -> Vec<Case> {
        passes.iter().map(|&pass| self.case(pass)).collect()
    }

    fn case(&self, pass: Pass) -> Case {
        let names = self.inputs.iter().filter(|input| !input.is_index()).map(|input| input.name.clone());
        let tracked: Vec<String> = match pass {
            Pass::Forward | Pass::Step => Vec::new(),
            Pass::Frozen => names.take(1).collect(),
            Pass::Training => names.collect(),
        };
        let (graph, names) = (self.clone(), tracked.clone());
        Case {
            op: self.op,
            peer: self.peer,
            shape: self.shape.clone(),
            pass,
            settings: self.settings.clone(),
            tracked,
            open: Box::new(move || graph.open(&names)),
        }
    }

    fn open(&self, tracked: &[String]) -> Contender {
        let tensors: Vec<Tensor> = self.inputs.iter().map(Input::tensor).collect();
        let names = self.inputs.iter().map(|input| input.name.clone());
        let mut inputs: Tensors = names.zip(tensors.iter().cloned()).collect();
        let run = Rc::clone(&self.run);
        if tracked.is_empty() {
            let once = Box::new(move || Tensors::from([("y".to_owned(), run(&tensors).unwrap())]));
            return Contender { inputs, once, timed: None };
        }
        let dy = Input::normal("dy", run(&tensors).unwrap().dims(), 1.0).tensor();
        inputs.insert("dy".to_owned(), dy.clone());
        let pick = |(input, tensor): (&Input, Tensor)| match tracked.contains(&input.name) {
            true => Var::from_tensor(&tensor).unwrap().as_tensor().clone(),
            false => tensor,
        };
        let tensors: Vec<Tensor> = self.inputs.iter().zip(tensors).map(pick).collect();
        let of_gradient = |input: &Input| tracked.contains(&input.name).then(|| format!("d.{}", input.name));
        let names: Vec<Option<String>> = self.inputs.iter().map(of_gradient).collect();
        let (again, leaves) = (Rc::clone(&run), tensors.clone());
        let timed = Box::new(move || drop(again(&leaves).unwrap().backward().unwrap()));
        let once = Box::new(move || {
            let y = run(&tensors).unwrap();
            let gradients = inner(&y, &dy).unwrap().backward().unwrap();
            let found = names
                .iter()
                .zip(&tensors)
                .filter_map(|(name, tensor)| Some((name.clone()?, gradients.get(tensor).expect("a gradient").clone())));
            found.chain([("y".to_owned(), y)]).collect()
        });
        Contender { inputs, once, timed: Some(timed) }
    }
}
