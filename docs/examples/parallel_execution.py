"""Parallel execution: run many computations at once."""
import time
import skyward as sky

@sky.function
def process_chunk(data: list[int]) -> int:
    """Sum all numbers in a chunk."""
    return sum(data)

@sky.function
def multiply(x: int, y: int) -> int:
    """Multiply two numbers."""
    return x * y

@sky.function
def factorial(n: int) -> int:
    """Calculate a factorial."""
    result = 1
    for i in range(1, n + 1):
        result *= i
    return result

if __name__ == "__main__":
    with sky.Compute(nodes=2) as compute:            # provider=sky.AWS(), sky.SSH(...): nothing below changes
        chunks = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
        results = sky.gather(*[process_chunk(c) for c in chunks]) >> compute
        print(f"Chunk sums: {results}")              # Chunk sums: (6, 15, 24)
        a, b = (multiply(2, 3) & multiply(4, 5)) >> compute
        print(f"Products: {a}, {b}")                 # Products: 6, 20
        s, p, f = (process_chunk([1, 2, 3]) & multiply(10, 20) & factorial(5)) >> compute
        print(f"Mixed: sum={s}, product={p}, factorial={f}")   # Mixed: sum=6, product=200, factorial=120
        tasks = [process_chunk([i] * 1000) for i in range(5)]
        start = time.monotonic()
        for result in sky.gather(*tasks, stream=True) >> compute:
            print(f"  [{time.monotonic() - start:.1f}s] Got: {result}")   # 0, 1000, 2000, 3000, 4000 in this order
