"""OrthoFed: federated fine-tuning of text-to-image models by Orthogonal Adaptation.

The repository is this package. core/ computes, proto/ is the wire contract, coordinator/ and
client/ are the two roles, assets/ holds the base model that ships. Nothing is imported here: a
command loads only what it runs.
"""
