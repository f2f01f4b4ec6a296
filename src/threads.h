/* Before a loop over threads Cython asks PyGILState_Check() whether there is a GIL to release. The drivers
   never need it released: who calls them has done so or wants to keep it. And Python 3.11 answers yes to
   everybody as soon as a second interpreter has been made, which ends the process. */
#ifndef LSTM_EXT_THREADS_H
#define LSTM_EXT_THREADS_H

#if PY_VERSION_HEX < 0x030C0000
#undef PyGILState_Check
#define PyGILState_Check() 0
#endif

#endif
