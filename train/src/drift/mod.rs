//! The drifting objective (paper sections 3.2-3.5, appendix A): field, normalisation, guidance, closed-form gradient.
