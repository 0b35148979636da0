import time, trio
from tests.session.members import *
from tests.session.conftest import site
from tests.site import until_broken
async def test_x(autojump_clock, site):
    values = await produce(site, 10)
    async with member(site) as hostile:
        await hostile.leased(10)
        row = [0, 10**9, [], None, "x" * 100]
        n=0; t=time.time()
        async def settle():
            nonlocal n
            n+=1
            number = next(hostile.peer.numbers)
            await hostile.peer.send(frames.Settle(number, 1, 1, [row] * 1000))
            if n%100==0: print(n, round(time.time()-t,2), trio.current_time(), site.budget.under_way, [ (s._outbox.nbytes if hasattr(s,'_outbox') else None) for s in []])
        with trio.fail_after(300):
            await until_broken(settle)
        print("end", n, time.time()-t, trio.current_time())
        assert 0
