def reranked(index_k, cosine_k, similarity_k):
    "The list of images (K,), its first len(similarity_k) re-ordered."
    top = len(similarity_k)
    order_k = (cosine_k[:top] + similarity_k).argsort(descending=True)
    return torch.cat([index_k[:top][order_k], index_k[top:]])
