//! The custom resources of kosmos.io/v1alpha1 and the validated words they are made of.
