//! Images and labels: where they come from and how a step draws from them.
