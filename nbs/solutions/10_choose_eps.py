def choose_eps(candidates, score):
    "The eps that was chosen, and what is reported for it."
    best = max(candidates, key=lambda eps: score(eps, "held_out"))
    return best, score(best, "test")
